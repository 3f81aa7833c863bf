import torch

from preceptor.data.toy import toy_image_data, toy_images


def test_toy_images_are_seeded():
    assert toy_images(seed=1).fingerprint() == toy_images(seed=1).fingerprint()
    assert toy_images(seed=1).fingerprint() != toy_images(seed=2).fingerprint()


def test_classes_are_even_and_pixels_fit():
    images = toy_images(count=31, classes=4)
    assert torch.bincount(images.labels).tolist() == [8, 8, 8, 7]
    assert images.shape == (1, 8, 8)


def test_the_three_sets_share_no_image():
    data = toy_image_data(count=80)
    assert [len(data.train), len(data.validation), len(data.test)] == [40, 20, 20]
    assert torch.cat([data.train.ids, data.validation.ids, data.test.ids]).tolist() == list(
        range(80)
    )


def test_a_few_steps_of_training_suffice():
    data = toy_image_data()
    generator = torch.Generator().manual_seed(0)
    hidden = (0.1 * torch.randn(64, 32, generator=generator)).requires_grad_()
    out = (0.1 * torch.randn(32, 3, generator=generator)).requires_grad_()
    train = data.train.batch(torch.arange(len(data.train)))

    def logits(batch):
        return torch.relu((batch.inputs.flatten(1) - 0.2) @ hidden) @ out

    optimizer = torch.optim.Adam([hidden, out], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(train), train.labels).backward()
        optimizer.step()
    test = data.test.batch(torch.arange(len(data.test)))
    assert (logits(test).argmax(-1) == test.labels).float().mean() > 0.9
