from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from preceptor.data.loading import load_images
from preceptor.data.raw import Holding, Shaping, assembled
from preceptor.data.tables import from_datasets
from preceptor.errors import DataError
from tests.data.image_files import picture, pixels, png

CIFAR = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10"


def write(path, labels, first=0, image="image", label="label", struct=True):
    contents = [png(picture(first + row)) for row in range(len(labels))]
    column = [{"bytes": each, "path": None} for each in contents] if struct else contents
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({image: column, label: labels}), path)
    return path


def test_a_folder_of_parquet_files_is_read_by_their_names(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", [0, 1] * 4)
    write(tmp_path / "train-00001-of-00002.parquet", [1, 0] * 4, first=50)
    write(tmp_path / "test-00000-of-00001.parquet", [1, 0], first=90)
    data = load_images(tmp_path, validation_share=0.25)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 4, 2]
    expected = np.stack([pixels(picture(90)), pixels(picture(91))])
    assert np.array_equal(torch.as_tensor(data.test.pixels).numpy(), expected)
    assert data.test.labels.tolist() == [1, 0]


def test_files_can_be_named_one_by_one_or_by_a_pattern(tmp_path):
    train = write(tmp_path / "train.parquet", [0, 1] * 5)
    test = write(tmp_path / "test.parquet", [1, 0], first=90)
    by_folder = load_images(tmp_path)
    assert load_images(str(tmp_path / "*.parquet")).fingerprint == by_folder.fingerprint
    assert load_images((train, test)).fingerprint == by_folder.fingerprint
    assert load_images(train, test=test).fingerprint == by_folder.fingerprint


def test_images_as_plain_bytes_and_other_columns_are_read(tmp_path):
    path = write(tmp_path / "a.parquet", ["x", "y"] * 5, image="img", label="fine", struct=False)
    data = load_images(path, image="img", label="fine")
    assert data.class_names == ("x", "y")
    with pytest.raises(DataError, match=r"no column 'image'.*has img, fine.*nearest: img"):
        load_images(path, label="fine")


def test_rows_without_a_label_are_unlabelled(tmp_path):
    path = write(tmp_path / "a.parquet", [0, 1] * 5 + [None, None])
    assert (load_images(path).train.labels == -1).sum() == 2


def test_a_row_with_a_broken_image_is_named(tmp_path):
    table = pa.table({"image": [png(picture(0))] * 3 + [b"nonsense"], "label": [0, 1, 0, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, row 3: it cannot be read"):
        load_images(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"image": [b"x", None], "label": [0, 1]}, "row 1, holds no image"),
        (
            {"image": [{"bytes": b"x", "path": None}, None], "label": [0, 1]},
            "row 1, holds no image",
        ),
        ({"image": [{"png": b"x"}] * 2, "label": [0, 1]}, "images of .* are stored as struct"),
        ({"image": [1.0, 2.0], "label": [0, 1]}, "images of .* are stored as double"),
        ({"image": [b"x", b"y"], "label": [0.5, 1.0]}, "labels of .* are stored as double"),
        ({"image": [b"x", b"y"], "kind": [0, 1]}, "no column 'label'"),
    ],
)
def test_tables_that_make_no_sense_get_a_sentence(tmp_path, columns, sentence):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=sentence):
        load_images(tmp_path / "a.parquet")


def test_images_can_lie_beside_the_table(tmp_path):
    for number in range(10):
        picture(number).save(tmp_path / f"{number}.png")
    column = [{"bytes": None, "path": f"{number}.png"} for number in range(10)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(column, kind), "label": [0, 1] * 5})
    pq.write_table(table, tmp_path / "all.parquet")
    data = load_images(tmp_path / "all.parquet", test_share=0.4)
    expected = {pixels(picture(number)).tobytes() for number in range(10)}
    assert {bytes(image.numpy()) for image in torch.as_tensor(data.test.pixels)} <= expected


def test_files_whose_part_cannot_be_told_are_refused(tmp_path):
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "more.parquet", [0, 1])
    with pytest.raises(DataError, match="cannot be told from their names"):
        load_images(tmp_path)


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match=r"train\.parquet: it cannot be read"):
        load_images(tmp_path)


def test_data_of_the_hub_are_read_with_their_class_names():
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )

    def part(first, count):
        images = [{"bytes": png(picture(first + row)), "path": None} for row in range(count)]
        labels = [row % 2 for row in range(count)]
        return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)

    loaded = datasets.DatasetDict({"train": part(0, 10), "test": part(50, 3)})
    raw = from_datasets(loaded, "somebody/pets", "image", "label")
    data = assembled(raw, Shaping(None, None, 2**20), Holding(0.2, 0.2, None, 0))
    assert data.class_names == ("cat", "dog")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 2, 3]
    expected = np.stack([pixels(picture(number)) for number in (50, 51, 52)])
    assert np.array_equal(torch.as_tensor(data.test.pixels).numpy(), expected)
    odd = datasets.DatasetDict({"train": part(0, 2), "extra": part(0, 2)})
    with pytest.raises(DataError, match="splits train, extra"):
        from_datasets(odd, "somebody/pets", "image", "label")


def test_a_hub_that_cannot_be_reached_gets_a_sentence(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"'nobody/nothing'.*Check the spelling and the network"):
        load_images("nobody/nothing")


@pytest.mark.skipif(not CIFAR.is_dir(), reason="needs the CIFAR-10 parquet files")
def test_a_slice_of_cifar_keeps_its_class_names_and_pixels(tmp_path):
    for split in ("train", "test"):
        group = pq.ParquetFile(CIFAR / f"{split}.parquet").read_row_group(0)
        pq.write_table(group.slice(0, 300), tmp_path / f"{split}.parquet")
    data = load_images(tmp_path)
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    assert data.shape == (3, 32, 32)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [270, 30, 300]
    mean = torch.as_tensor(data.test.pixels).float().mean(dim=(0, 2, 3)) / 255
    # the published channel means of CIFAR-10
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.03)
