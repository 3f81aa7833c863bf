import json
from pathlib import Path

import pytest
import torch

from preceptor.errors import NeedsError, StorageError
from preceptor.teachers.live import Live
from preceptor.teachers.store import Manifest, Store
from preceptor.teachers.writing import write_store
from tests.teachers.small import CLASSES, batch_of, cnn

IDS = list(range(20))


def written(folder: Path) -> Path:
    """A store of 20 examples in 3 views, in several shards."""
    batches = [
        batch_of(IDS[start : start + 5], view) for view in range(3) for start in (0, 5, 10, 15)
    ]
    write_store(
        folder,
        Live(cnn()),
        batches,
        teacher_hash="t" * 64,
        data_hash="d" * 64,
        views=3,
        shard_rows=12,
    )
    return folder


def test_every_row_is_found_by_id_and_view_in_any_order(tmp_path: Path) -> None:
    store = Store.open(written(tmp_path))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ids = torch.randint(0, 20, (7,), generator=generator)
        views = torch.randint(0, 3, (7,), generator=generator)
        rows = [
            Live(cnn()).signal(batch_of([int(i)], int(v))).logits
            for i, v in zip(ids, views, strict=True)
        ]
        assert torch.allclose(store.read(ids, views), torch.cat(rows), atol=1e-6)


def test_a_store_too_large_for_memory_reads_the_same_rows(tmp_path: Path) -> None:
    written(tmp_path)
    ids, views = torch.tensor([19, 0, 7, 7, 12]), torch.tensor([2, 0, 1, 0, 2])
    mapped = Store.open(tmp_path, in_memory=0)
    assert torch.equal(mapped.read(ids, views), Store.open(tmp_path).read(ids, views))


def test_its_manifest_says_what_it_holds(tmp_path: Path) -> None:
    store = Store.open(written(tmp_path))
    assert len(store) == 60
    assert store.classes == CLASSES
    assert sum(shard.rows for shard in store.manifest.shards) == 60
    assert len(store.manifest.shards) == 4
    found = json.loads((tmp_path / "manifest.json").read_text())
    assert found["format"] == 1
    assert found["teacher"] == "t" * 64
    assert found["data"] == "d" * 64
    assert found["views"] == 3
    assert found["classes"] == CLASSES
    assert found["dtype"] == "float32"


def test_there_is_no_file_an_example(tmp_path: Path) -> None:
    names = sorted(path.name for path in written(tmp_path).iterdir())
    assert names == ["manifest.json", *(f"shard-{k:05d}.npy" for k in range(4))]


@pytest.mark.parametrize(
    ("ids", "views", "words"),
    [
        ([3, 20], [0, 0], r"ids 20 \(view 0\).*as many views"),
        ([3], [3], r"ids 3 \(view 3\)"),
        ([-1], [0], r"ids -1 \(view 0\)"),
        ([3], [-1], r"ids 3 \(view -1\)"),
        (list(range(20, 30)), [0] * 10, "and 5 more"),
    ],
)
def test_what_it_does_not_hold_is_named(
    tmp_path: Path, ids: list[int], views: list[int], words: str
) -> None:
    store = Store.open(written(tmp_path))
    with pytest.raises(NeedsError, match=words):
        store.read(torch.tensor(ids), torch.tensor(views))


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    path = written(tmp_path) / "shard-00001.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"shard-00001\.npy.*truncated"):
        Store.open(tmp_path)


def test_one_changed_bit_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path) / "shard-00002.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StorageError, match=r"shard-00002\.npy"):
        Store.open(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (written(tmp_path) / "shard-00000.npy").unlink()
    with pytest.raises(StorageError, match=r"shard-00000\.npy.*missing"):
        Store.open(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"shards": [{}]}', '{"shards": 3}', '{"views": 1}']
)
def test_a_broken_manifest_is_a_sentence(tmp_path: Path, text: str) -> None:
    (written(tmp_path) / "manifest.json").write_text(text)
    with pytest.raises(StorageError, match=r"manifest\.json.*cannot be read"):
        Store.open(tmp_path)


def test_a_folder_without_a_store_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no manifest\.json"):
        Store.open(tmp_path / "nowhere")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path) / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StorageError, match="has format 2"):
        Manifest.read(tmp_path)


def test_another_teacher_or_other_data_is_refused(tmp_path: Path) -> None:
    store = Store.open(written(tmp_path))
    store.expect(teacher="t" * 64, data="d" * 64)
    with pytest.raises(StorageError, match=r"is of teacher tttttttttttt.*teacher is xxxx"):
        store.expect(teacher="x" * 64)
    with pytest.raises(StorageError, match="is of data dddddddddddd"):
        store.expect(teacher="t" * 64, data="y" * 64)
