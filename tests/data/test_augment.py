import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from preceptor.data.augment import Augment
from preceptor.errors import DataError, RecipeError


def pixels(count=12, channels=3, side=8):
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    return torch.randint(1, 256, shape, generator=generator, dtype=torch.uint8)


def numpy_words():
    """A copy of the state of numpy's global generator."""
    state = np.random.get_state(legacy=False)
    return np.array(state["state"]["key"])  # type: ignore[index]


def views(count, number=1):
    return torch.full((count,), number)


def test_a_view_is_a_crop_of_the_padded_image_or_its_mirror():
    images, augment = pixels(), Augment(crop=2)
    seen = augment(images, torch.arange(12), views(12))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for image, made in zip(padded, seen, strict=True):
        crops = [image[:, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        assert any(torch.equal(made, crop) or torch.equal(made, crop.flip(-1)) for crop in crops)


def test_an_example_looks_the_same_in_any_batch_and_any_order():
    images, ids, view = pixels(), torch.arange(100, 112), views(12, 3)
    augment = Augment(crop=2)
    whole = augment(images, ids, view)
    order = torch.tensor([7, 3, 11, 0])
    assert torch.equal(augment(images[order], ids[order], view[order]), whole[order])
    assert torch.equal(augment(images[5:6], ids[5:6], view[5:6]), whole[5:6])


def test_a_view_does_not_touch_random_generators_nor_the_original():
    images = pixels()
    before, torch_state, numpy_state = (
        images.clone(),
        torch.get_rng_state(),
        numpy_words(),
    )
    Augment()(images, torch.arange(12), views(12))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(numpy_words(), numpy_state)


def test_views_of_an_example_differ():
    images = pixels(1).expand(40, -1, -1, -1)
    seen = Augment(crop=2)(images, torch.zeros(40, dtype=torch.int64), torch.arange(1, 41))
    assert len({bytes(made.numpy()) for made in seen}) > 20


def test_view_zero_is_the_plain_image():
    images = pixels()
    assert torch.equal(Augment(crop=3)(images, torch.arange(12), views(12, 0)), images)


def test_without_crop_and_flip_nothing_changes():
    images = pixels()
    assert torch.equal(Augment(crop=0, flip=False)(images, torch.arange(12), views(12)), images)


def test_crops_and_flips_are_uniform():
    # One lit pixel in the middle says where the crop lay; a second one beside it, whether mirrored.
    count = 8000
    images = torch.zeros(count, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4], images[:, :, 4, 5] = 200, 100
    seen = Augment(crop=1)(images, torch.arange(count), views(count))[:, 0]
    place = (seen == 200).flatten(1).int().argmax(1)
    y, x = place // 9, place % 9
    rows = torch.arange(count)
    mirrored = seen[rows, y, x - 1] == 100
    assert torch.equal(mirrored, seen[rows, y, x + 1] != 100)
    assert chisquare(np.bincount(mirrored.int().numpy())).pvalue > 1e-3
    crops = (y - 3) * 3 + (x - 3)
    assert chisquare(np.bincount(crops.numpy(), minlength=9)).pvalue > 1e-3
    assert abs(np.corrcoef(mirrored.numpy(), y.numpy())[0, 1]) < 0.05


def test_a_fixed_number_of_views_takes_turns_and_is_the_same_for_every_seed():
    epochs = np.arange(5)
    assert Augment(views=3).view(epochs, 0).tolist() == [1, 2, 3, 1, 2]
    assert Augment(views=3).view(epochs, 99).tolist() == [1, 2, 3, 1, 2]


def test_without_one_every_epoch_and_every_seed_has_new_views():
    epochs = np.arange(50)
    drawn = np.concatenate([Augment().view(epochs, seed) for seed in (0, 1, 2**31 - 1)])
    assert len(set(drawn.tolist())) == 150
    assert drawn.min() == 1


def test_a_crop_as_large_as_the_image_is_refused():
    with pytest.raises(DataError, match=r"crop of 8 pixels on images of 8 by 8"):
        Augment(crop=8)(pixels(), torch.arange(12), views(12))


def test_values_below_zero_are_refused():
    with pytest.raises(RecipeError, match="crop=-1"):
        Augment(crop=-1)
    with pytest.raises(RecipeError, match="views=-2"):
        Augment(views=-2)
