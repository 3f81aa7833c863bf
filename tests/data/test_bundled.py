import numpy as np
import pytest
import torch
from sklearn import datasets

from preceptor.data.bundled import BUNDLED
from preceptor.data.loading import load_images
from preceptor.data.squares import one_hot, scaled, square_images

ROWS = {"iris": 150, "wine": 178, "breast_cancer": 569, "diabetes": 442}


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_a_table_has_all_its_rows_once(name: str) -> None:
    data = load_images(name, validation_share=0.2, test_share=0.3)
    assert len(data.train) + len(data.validation) + len(data.test) == ROWS[name]
    assert name in data.origin


def test_pixels_are_the_columns_brought_to_their_range() -> None:
    from preceptor.data.bundled import read_bundled

    wine = datasets.load_wine()
    images = read_bundled("wine").train
    assert isinstance(images.images, torch.Tensor)
    assert images.images.shape == (178, 1, 4, 4)
    flat = images.images.flatten(1).numpy()
    columns = wine.data  # pyright: ignore[reportAttributeAccessIssue]
    spread = columns.max(axis=0) - columns.min(axis=0)
    expected = 255 * (columns - columns.min(axis=0)) / spread
    assert np.abs(flat[:, :13] - expected).max() <= 0.5
    assert (flat[:, 13:] == 0).all()
    assert images.class_names == ("class_0", "class_1", "class_2")


def test_diabetes_is_told_as_two_halves() -> None:
    data = load_images("diabetes", validation_share=0.2, test_share=0.3)
    assert data.class_names == ("below the median", "above the median")
    assert 0.45 < float((data.test.labels == 0).double().mean()) < 0.55


def test_a_constant_column_is_zero() -> None:
    assert scaled(np.array([[1.0, 2.0], [1.0, 4.0]])).tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_one_number_is_one_pixel() -> None:
    assert square_images(np.array([[1.0]])).tolist() == [[[[255]]]]
    assert one_hot(np.array([[2]]), (3,)).tolist() == [[0.0, 0.0, 1.0]]
