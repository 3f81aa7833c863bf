"""What is told of images beside their classes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preceptor.data.loading import load_images
from preceptor.errors import DataError
from preceptor.recipe.data import Data
from preceptor.recipe.image_subject import ImageSubject
from tests.data.image_files import picture, png


def folder(root: Path) -> Path:
    for number in range(12):
        place = root / "images" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02}.png").write_bytes(png(picture(number)))
    return root / "images"


def listed(root: Path, rows: int = 12) -> Path:
    lines = [f"{'ab'[k % 2]}/{k:02}.png,ward {k // 4},{k // 2}" for k in range(rows)]
    file = root / "groups.csv"
    file.write_text("image,ward,patient\n" + "\n".join(lines) + "\n")
    return file


def test_a_file_tells_of_a_folders_images_and_a_split_keeps_them_together(tmp_path: Path) -> None:
    source, file = folder(tmp_path), listed(tmp_path)
    data = load_images(source, columns=("ward", "patient"), groups=str(file), test_share=0.4)
    whole = load_images(source, test_share=0.4)
    assert data.test.fingerprint() == whole.test.fingerprint()
    for part in (data.train, data.validation, data.test):
        assert len(part.columns["ward"]) == len(part.columns["patient"]) == len(part)
        told = zip(part.columns["ward"], part.columns["patient"], strict=True)
        assert all(int(ward[-1]) == int(patient) // 2 for ward, patient in told)
    kept = data.test.subset(data.test.labelled[:1])
    assert kept.columns == {name: each[:1] for name, each in data.test.columns.items()}


def test_a_tables_own_columns_are_kept(tmp_path: Path) -> None:
    images = [png(picture(number)) for number in range(8)]
    table = pa.table({"image": images, "label": [0, 1] * 4, "site": [k // 4 for k in range(8)]})
    pq.write_table(table, tmp_path / "train.parquet")
    data = load_images(tmp_path / "train.parquet", columns=("site",), test_share=0.5)
    assert set(data.test.columns["site"]) <= {"0", "1"}
    with pytest.raises(DataError, match=r"has no column 'sight'.*nearest: site"):
        load_images(tmp_path / "train.parquet", columns=("sight",))


def test_an_image_that_nothing_is_told_of_is_named(tmp_path: Path) -> None:
    source, file = folder(tmp_path), listed(tmp_path, rows=11)
    with pytest.raises(DataError, match=r"no row for b/11\.png"):
        load_images(source, columns=("ward",), groups=str(file))
    with pytest.raises(DataError, match="has no column 'wart'"):
        load_images(source, columns=("wart",), groups=str(listed(tmp_path)))
    with pytest.raises(DataError, match=r"nothing of .* is told by that name"):
        load_images("toy", columns=("ward",))
    with pytest.raises(DataError, match="by its path inside a folder"):
        load_images("toy", columns=("ward",), groups=str(file))


def test_a_recipe_names_what_is_shown_apart_and_what_is_drawn_together(tmp_path: Path) -> None:
    told = {"groups": str(listed(tmp_path)), "slices": ("ward",), "clusters": "patient"}
    subject = ImageSubject(Data(source=str(folder(tmp_path)), test=0.4, **told))  # pyright: ignore[reportArgumentType]
    assert subject.slices() == {"ward": subject.data.test.columns["ward"]}
    assert subject.clusters() == subject.data.test.columns["patient"]
    assert len(subject.clusters()) == len(subject.labels)
