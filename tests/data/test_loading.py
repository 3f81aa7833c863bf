import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from preceptor.data.loading import load_images
from preceptor.data.stratified import few_labels
from preceptor.errors import DataError


def test_digits_are_all_there_and_full_ink_is_one():
    data = load_images("digits", validation_share=0.15)
    sets = (data.train, data.validation, data.test)
    assert [len(part) for part in sets] == [1102, 195, 500]
    assert data.class_names == tuple("0123456789")
    pixels = torch.cat([torch.as_tensor(part.pixels) for part in sets])
    labels = torch.cat([part.labels for part in sets])
    originals, targets = load_digits(return_X_y=True)
    found = {(bytes(p.numpy()), int(y)) for p, y in zip(pixels, labels, strict=True)}
    stretched = np.rint(originals * 255 / 16).astype(np.uint8)
    assert found == {(bytes(p), int(y)) for p, y in zip(stretched, targets, strict=True)}
    batch = data.train.batch(torch.arange(1000))
    assert float(torch.as_tensor(batch.inputs).max()) == 1.0


def test_the_test_digits_never_change_and_every_class_has_its_share():
    one, other = load_images("digits"), load_images("digits", seed=5, validation_share=0.3)
    assert one.test.fingerprint() == other.test.fingerprint()
    assert one.validation.fingerprint() != other.validation.fingerprint()
    shares = torch.bincount(one.test.labels) / 500
    truth = np.bincount(load_digits(return_X_y=True)[1]) / 1797
    assert np.abs(shares.numpy() - truth).max() < 1 / 500


def test_what_is_held_out_depends_on_the_seed_of_the_data_alone():
    assert load_images("digits", seed=2).fingerprint == load_images("digits", seed=2).fingerprint
    few = few_labels(load_images("digits").train.labels, 100, seed=0)
    labels = load_images("digits").train.labels[few]
    assert torch.bincount(labels).tolist() == [10] * 10


def test_a_limit_keeps_every_class_and_leaves_the_other_sets_alone():
    data, whole = load_images("digits", limit=50), load_images("digits")
    assert len(data.train) == 50
    assert torch.bincount(data.train.labels).tolist() == [5] * 10
    assert data.test.fingerprint() == whole.test.fingerprint()
    assert data.validation.fingerprint() == whole.validation.fingerprint()


def test_sources_can_be_named_for_each_part():
    data = load_images("digits", validation="digits", size=10)
    assert len(data.train) == 1297
    assert len(data.validation) == 1297
    assert data.shape == (1, 10, 10)


def test_toys_are_split_like_anything_else():
    data = load_images("toy")
    assert sum(len(part) for part in (data.train, data.validation, data.test)) == 240


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nothing_here", r"'nothing_here': there is no such file or folder"),
        ("./no/folder", r"no such file or folder"),
        ("no.npz", r"no such file or folder"),
        ("some/no.parquet", r"'some/no\.parquet': there is no such file"),
        ("none-*.parquet", r"'none-\*\.parquet': there is no such file"),
        ((1, 2, 3), "a source of 3 parts"),
    ],
)
def test_a_source_that_is_not_there_gets_a_sentence(source, sentence):
    with pytest.raises(DataError, match=sentence):
        load_images(source)


def test_a_file_of_another_kind_gets_a_sentence(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"images\.zip: images are read from folders"):
        load_images(tmp_path / "images.zip")


def test_two_test_sets_are_refused():
    with pytest.raises(DataError, match=r"`test` names toy images.*Leave `test` out"):
        load_images("digits", test="toy")


@pytest.mark.parametrize(
    "option",
    [
        {"size": 0},
        {"size": (4, -1)},
        {"channels": 2},
        {"validation_share": 0.0},
        {"test_share": 1.0},
    ],
)
def test_options_out_of_range_are_refused(option):
    with pytest.raises(DataError, match=next(iter(option))):
        load_images("toy", **option)
