import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preceptor.data.encoded import EncodedImages
from preceptor.data.loading import load_images
from preceptor.errors import DataError
from tests.data.image_files import fill, picture, pixels


def test_class_folders_are_read_and_split(tmp_path):
    fill(tmp_path, ["b", "a"], each=10)
    data = load_images(tmp_path, test_share=0.3, validation_share=0.25)
    assert data.class_names == ("a", "b")
    assert data.shape == (3, 6, 6)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 4, 6]
    for part in (data.train, data.validation, data.test):
        assert torch.bincount(part.labels).tolist() == [len(part) // 2] * 2


def test_pixels_are_those_of_the_files(tmp_path):
    fill(tmp_path / "train", ["a", "b"])
    fill(tmp_path / "test", ["a", "b"], each=2)
    data = load_images(tmp_path)
    assert len(data.test) == 4
    test = torch.as_tensor(data.test.pixels).numpy()
    expected = [pixels(picture(number)) for number in (0, 1, 100, 101)]
    assert np.array_equal(test, np.stack(expected))
    assert data.test.labels.tolist() == [0, 0, 1, 1]


def test_a_validation_folder_is_used_as_it_is(tmp_path):
    for part, each in (("train", 4), ("val", 3), ("test", 2)):
        fill(tmp_path / part, ["a", "b"], each=each)
    data = load_images(tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 6, 4]


def test_unlabelled_images_join_the_training_set(tmp_path):
    fill(tmp_path / "train", ["a", "b"])
    fill(tmp_path / "test", ["a", "b"])
    fill(tmp_path, ["unlabelled"], each=7)
    data = load_images(tmp_path, validation_share=0.2)
    assert len(data.train) == 8 + 7
    assert (data.train.labels == -1).sum() == 7
    assert (data.validation.labels >= 0).all()


def test_a_test_folder_may_lack_a_class_and_keeps_the_order(tmp_path):
    fill(tmp_path / "train", ["a", "b", "c"])
    fill(tmp_path / "test", ["c"], each=2)
    assert load_images(tmp_path).test.labels.tolist() == [2, 2]


def test_a_given_order_of_classes_is_kept(tmp_path):
    fill(tmp_path / "train", ["a", "b"])
    fill(tmp_path / "test", ["a"], each=2)
    data = load_images(tmp_path, class_names=["b", "a"])
    assert data.class_names == ("b", "a")
    assert data.test.labels.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"class 'b'.*nearest"):
        load_images(tmp_path, class_names=["a", "bee"])


def test_a_class_unknown_in_training_is_refused(tmp_path):
    fill(tmp_path / "train", ["cats", "dogs"])
    fill(tmp_path / "test", ["cat"])
    with pytest.raises(DataError, match=r"test set has a class 'cat'.*nearest: cats"):
        load_images(tmp_path)


def test_different_sizes_need_a_size(tmp_path):
    fill(tmp_path, ["a", "b"])
    picture(7, side=9).save(tmp_path / "b" / "big.png")
    with pytest.raises(DataError, match=r"big\.png is 9 by 9.*first image 6 by 6.*`size`"):
        load_images(tmp_path)
    assert load_images(tmp_path, size=5).shape == (3, 5, 5)
    assert load_images(tmp_path, size=(4, 7)).shape == (3, 4, 7)


def test_gray_and_colour_need_channels(tmp_path):
    fill(tmp_path, ["a", "b"])
    picture(7, mode="L").save(tmp_path / "b" / "gray.png")
    with pytest.raises(DataError, match=r"gray\.png has one channel .gray.*`channels`"):
        load_images(tmp_path)
    assert load_images(tmp_path, channels=3).shape == (3, 6, 6)
    gray = load_images(tmp_path, channels=1)
    assert gray.shape == (1, 6, 6)


def test_an_unreadable_image_is_named(tmp_path):
    fill(tmp_path, ["a", "b"])
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    with pytest.raises(DataError, match=r"notes\.txt: it cannot be read"):
        load_images(tmp_path)


def test_a_truncated_image_is_named(tmp_path):
    fill(tmp_path, ["a", "b"], side=40)
    broken = tmp_path / "b" / "3.png"
    broken.write_bytes(broken.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"b.3\.png: it cannot be read"):
        load_images(tmp_path)


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path):
    fill(tmp_path, ["a", "b"], mode="L")
    deep = Image.fromarray(np.full((6, 6), 4000, dtype=np.uint16))
    deep.save(tmp_path / "a" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png has more than 8 bits"):
        load_images(tmp_path)


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            wide = picture(number, side=4, width=8)
            exif = Image.Exif()
            exif[0x0112] = 6
            wide.save(tmp_path / name / f"{number}.png", exif=exif)
    data = load_images(tmp_path, test_share=0.4, validation_share=0.4)
    assert data.shape == (3, 8, 4)
    upright = {pixels(picture(number, side=4, width=8).rotate(-90, expand=True)).tobytes()
               for number in range(3)}  # fmt: skip
    assert {bytes(image.numpy()) for image in torch.as_tensor(data.train.pixels)} <= upright


def test_hidden_files_are_passed_over(tmp_path):
    fill(tmp_path, ["a", "b"])
    for name in (".DS_Store", "Thumbs.db"):
        (tmp_path / "a" / name).write_text("")
    (tmp_path / ".cache").mkdir()
    assert load_images(tmp_path).num_classes == 2


@pytest.mark.parametrize(
    ("arrange", "sentence"),
    [
        (lambda root: (root / "a").mkdir(), r"class folder .*a is empty"),
        (lambda root: picture().save(root / "loose.png"), r"has no subfolders"),
        (lambda root: (fill(root, ["a"]), picture().save(root / "x.png")), r"x\.png lies beside"),
        (lambda root: (fill(root / "train", ["a"]), fill(root / "tets", ["a"])), r"tets beside"),
        (
            lambda root: [fill(root / part, ["a"]) for part in ("training", "testing")],
            r"class folder .*testing holds the folder a",
        ),
        (
            lambda root: [fill(root / part, ["a"]) for part in ("train", "val", "dev")],
            "2 validation sets",
        ),
    ],
)
def test_folders_that_cannot_be_meant_are_refused(tmp_path, arrange, sentence):
    arrange(tmp_path)
    with pytest.raises(DataError, match=sentence):
        load_images(tmp_path)


def test_what_does_not_fit_in_memory_is_decoded_on_the_way(tmp_path):
    fill(tmp_path, ["a", "b"], each=6)
    held = load_images(tmp_path)
    streamed = load_images(tmp_path, memory=100)
    assert isinstance(streamed.train.pixels, EncodedImages)
    rows = torch.tensor([3, 0, 2])
    one, other = held.train.batch(rows), streamed.train.batch(rows)
    assert torch.equal(torch.as_tensor(one.inputs), torch.as_tensor(other.inputs))
    for data in (held, streamed):
        files = data.train.subset(rows).files
        assert files == tuple(data.train.files[row] for row in (3, 0, 2))
        assert np.array_equal(
            pixels(Image.open(files[0])), (255 * torch.as_tensor(one.inputs)[0]).round().numpy()
        )
    some = streamed.train.subset(rows).batch(torch.arange(3))
    assert torch.equal(torch.as_tensor(some.inputs), torch.as_tensor(one.inputs))
    assert some.ids.tolist() == rows.tolist()


def test_a_stream_checks_every_head_and_has_a_fingerprint_that_does_not_know_its_place(tmp_path):
    fill(tmp_path / "one", ["a", "b"])
    first = load_images(tmp_path / "one", memory=100).fingerprint
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert load_images(tmp_path / "two", memory=100).fingerprint == first
    picture(9).save(tmp_path / "two" / "a" / "9.png")
    assert load_images(tmp_path / "two", memory=100).fingerprint != first
    picture(7, side=9).save(Path(tmp_path / "one" / "b" / "big.png"))
    with pytest.raises(DataError, match=r"big\.png is 9 by 9"):
        load_images(tmp_path / "one", memory=100)
