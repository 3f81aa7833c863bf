import numpy as np
import pytest
import torch

from preceptor.data.loading import load_images
from preceptor.errors import DataError

LABELS = np.arange(20) % 2


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def every_pixel(data):
    sets = (data.train, data.validation, data.test)
    return torch.cat([torch.as_tensor(part.pixels) for part in sets])


def test_arrays_are_split_and_keep_their_values():
    images = noise(20, 3, 5, 4)
    data = load_images((images, LABELS), test_share=0.3, validation_share=0.2)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [11, 3, 6]
    assert data.class_names == ("0", "1")
    assert {bytes(image.numpy()) for image in every_pixel(data)} == {bytes(i) for i in images}
    index = {bytes(image): row for row, image in enumerate(images)}
    for part in (data.train, data.validation, data.test):
        rows = [index[bytes(image.numpy())] for image in torch.as_tensor(part.pixels)]
        assert part.labels.tolist() == LABELS[rows].tolist()


@pytest.mark.parametrize("kind", ["last", "torch", "gray", "fractions", "wide"])
def test_layouts_and_types_come_to_the_same(kind):
    images = noise(20, 1 if kind == "gray" else 3, 5, 4)
    given = {
        "last": images.transpose(0, 2, 3, 1),
        "torch": torch.from_numpy(images),
        "gray": images[:, 0],
        "fractions": images / 255,
        "wide": images.astype(np.int64),
    }[kind]
    labels = torch.from_numpy(LABELS) if kind == "torch" else LABELS.astype(np.uint8)[:, None]
    plain, other = load_images((images, LABELS)), load_images((given, labels))
    assert plain.fingerprint == other.fingerprint


def test_names_as_labels_are_numbered_alphabetically():
    data = load_images((noise(20, 1, 4, 4), np.array(["dog", "cat"])[LABELS]))
    assert data.class_names == ("cat", "dog")


def test_labels_of_the_test_set_follow_the_names_of_the_training_set():
    names = np.array(["ant", "bee", "cow"])
    images = noise(21, 1, 4, 4)
    data = load_images((images, names[np.arange(21) % 3]), test=(images[:2], names[[2, 1]]))
    assert data.test.labels.tolist() == [2, 1]


def test_images_without_a_label_stay_in_the_training_set():
    labels = LABELS.copy()
    labels[:8] = -1
    data = load_images((noise(20, 1, 4, 4), labels))
    assert (data.train.labels == -1).sum() == 8


def test_pixels_can_be_resized_and_recoloured():
    white = np.full((20, 3, 4, 4), 255, dtype=np.uint8)
    data = load_images((white, LABELS), size=8, channels=1)
    assert data.shape == (1, 8, 8)
    assert (every_pixel(data) == 255).all()
    # ITU-R 601: 0.299 of red, 76.245 of 255
    red = white * np.array([1, 0, 0], dtype=np.uint8)[:, None, None]
    assert every_pixel(load_images((red, LABELS), channels=1)).unique().tolist() == [76]
    gray = load_images((white[:, :1] // 5, LABELS), channels=3)
    assert gray.shape == (3, 4, 4)
    assert (every_pixel(gray) == 51).all()


def broken(value):
    images = noise(20, 1, 4, 4) / 255
    images[[3, 11], 0, 1, 1] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (broken(np.nan), LABELS, r"NaN or Inf in the train set, images 3, 11"),
        (broken(np.inf), LABELS, r"NaN or Inf in the train set, images 3, 11"),
        (broken(254.0), LABELS, r"pixels outside 0 to 1 .*Divide by 255"),
        (broken(-0.5), LABELS, r"pixels outside 0 to 1 in the train set, images 3, 11"),
        (noise(20, 1, 4, 4).astype(int) + 256, LABELS, r"outside 0 to 255.*and 12 more"),
        (noise(20, 1, 4, 4) > 9, LABELS, r"type bool"),
        (noise(20, 5, 4, 4), LABELS, r"shape \[20, 5, 4, 4\]"),
        (noise(20, 3, 4, 3), LABELS, r"exactly one of the second and the last axis"),
        (noise(20, 1, 4, 4), LABELS[:-1], r"20 images and 19 labels"),
        (noise(20, 1, 4, 4), LABELS / 2, r"one whole number, or one class name"),
        (noise(20, 1, 4, 4), LABELS - 2, r"no training image|labels -2"),
        (noise(20, 1, 4, 4), LABELS * 2, r"no training image of the classes 1"),
        (noise(20, 1, 4, 4), LABELS * 1000, r"largest label of the train set is 1000"),
        (noise(20, 1, 4, 4), LABELS * 0 - 1, r"no training image of arrays has a label"),
        (noise(0, 1, 4, 4), LABELS[:0], r"0 numbers of type|no training image"),
    ],
)
def test_arrays_that_make_no_sense_get_a_sentence(images, labels, sentence):
    with pytest.raises(DataError, match=sentence):
        load_images((images, labels))


def test_a_test_set_with_a_label_of_its_own_is_refused():
    images = noise(20, 1, 4, 4)
    with pytest.raises(DataError, match=r"test set has labels 2 \(images 1\)"):
        load_images((images, LABELS), test=(images[:2], np.array([0, 2])))


def test_a_test_set_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"test images are 3 by 4 by 4.*1 by 4 by 4.*`channels`"):
        load_images((noise(20, 1, 4, 4), LABELS), test=(noise(20, 3, 4, 4), LABELS))


@pytest.mark.parametrize("names", ["x_train y_train x_test y_test", "train_images train_labels "
                                   "test_images test_labels"])  # fmt: skip
def test_npz_files_are_read_by_their_names(tmp_path, names):
    images = noise(20, 6, 6)
    arrays = dict(zip(names.split(), (images, LABELS, images[:4], LABELS[:4]), strict=True))
    np.savez(tmp_path / "set.npz", allow_pickle=False, **arrays)
    data = load_images(tmp_path / "set.npz")
    assert torch.equal(torch.as_tensor(data.test.pixels)[:, 0], torch.from_numpy(images[:4]))
    assert len(data.train) + len(data.validation) == 20


def test_an_npz_file_without_parts_is_split(tmp_path):
    np.savez(tmp_path / "set.npz", x=noise(20, 6, 6), y=LABELS)
    assert len(load_images(str(tmp_path / "set.npz")).test) == 4


def test_npz_files_that_cannot_be_read_get_a_sentence(tmp_path):
    np.savez(tmp_path / "other.npz", a=noise(3, 2))
    with pytest.raises(DataError, match=r"holds the arrays a.*Name them x_train"):
        load_images(tmp_path / "other.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"broken\.npz: it cannot be read"):
        load_images(tmp_path / "broken.npz")


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([[1], [2, 3]], dtype=object)
    np.savez(tmp_path / "objects.npz", x=objects, y=objects)
    with pytest.raises(DataError, match="it cannot be read as"):
        load_images(tmp_path / "objects.npz")
