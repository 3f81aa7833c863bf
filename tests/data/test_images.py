from dataclasses import replace

import pytest
import torch

from preceptor.data.augment import Augment
from preceptor.data.images import image_data, image_set
from preceptor.data.toy import toy_image_data, toy_images
from preceptor.errors import DataError

NAMES = ("cat", "dog")


def images(labels, side=4, names=NAMES, fill=0):
    pixels = torch.full((len(labels), 1, side, side), fill, dtype=torch.uint8)
    return image_set(pixels, torch.tensor(labels, dtype=torch.int64), names)


def test_pixels_become_fractions_and_keep_labels_and_ids():
    given = images([0, 1, 1], fill=51)
    batch = given.batch(torch.tensor([2, 0]))
    assert isinstance(batch.inputs, torch.Tensor)
    assert batch.inputs.dtype == torch.float32
    assert torch.allclose(batch.inputs, torch.tensor(0.2))
    assert batch.labels.tolist() == [1, 0]
    assert batch.ids.tolist() == [2, 0]
    assert batch.view.tolist() == [0, 0]


def test_batches_hold_everything_once_in_order():
    given = toy_images(10)
    batches = list(given.batches(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.ids for batch in batches]).tolist() == list(range(10))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), given.labels)


def test_a_subset_keeps_ids_and_so_its_augmentation():
    given, augment = toy_images(10), Augment(crop=2)
    some = given.subset(torch.tensor([8, 3]), name="some")
    view = torch.ones(1, dtype=torch.int64)
    one = some.batch(torch.tensor([1]), augment=augment, view=view)
    same = given.batch(torch.tensor([3]), augment=augment, view=view)
    assert some.name == "some"
    assert one.ids.tolist() == [3]
    assert torch.equal(torch.as_tensor(one.inputs), torch.as_tensor(same.inputs))


def test_labels_out_of_range_are_named_with_their_images():
    with pytest.raises(DataError, match=r"labels 2, 7 \(images 1, 3\).*2 classes, 0 to 1"):
        images([0, 2, 1, 7])
    with pytest.raises(DataError, match=r"labels -2"):
        images([0, -2])


def test_a_set_without_images_is_refused():
    with pytest.raises(DataError, match="holds no image"):
        images([])


def test_ids_tell_the_sets_apart():
    data = image_data(images([0, 1, 0]), images([0]), images([1, 0]), "here")
    assert data.train.ids.tolist() == [0, 1, 2]
    assert data.validation.ids.tolist() == [3]
    assert data.test.ids.tolist() == [4, 5]
    assert (data.num_classes, data.shape, data.class_names) == (2, (1, 4, 4), NAMES)


def test_a_class_without_training_images_is_refused():
    with pytest.raises(DataError, match="no training image of the classes dog"):
        image_data(images([0, -1]), images([0]), images([1]), "here")


def test_sets_of_other_shapes_or_classes_are_refused():
    train = images([0, 1])
    with pytest.raises(DataError, match=r"1 by 5 by 5.*1 by 4 by 4"):
        image_data(train, images([0], side=5), images([1]), "here")
    with pytest.raises(DataError, match=r"classes cat, cow.*cat, dog"):
        image_data(train, images([0]), images([1], names=("cat", "cow")), "here")


def test_nothing_is_measured_without_labels():
    with pytest.raises(DataError, match="no label"):
        image_data(images([0, 1]), images([0]), images([1, -1]), "here")


def test_the_fingerprint_follows_every_pixel_and_label():
    data = toy_image_data(40)
    assert data.fingerprint == toy_image_data(40).fingerprint
    pixels = torch.as_tensor(data.test.pixels).clone()
    pixels[3, 0, 1, 1] += 1
    labels = data.train.labels.clone()
    labels[0] = (labels[0] + 1) % 3
    changed = [
        image_data(data.train, data.validation, replace(data.test, pixels=pixels), "x"),
        image_data(replace(data.train, labels=labels), data.validation, data.test, "x"),
    ]
    assert len({data.fingerprint, *(each.fingerprint for each in changed)}) == 3
