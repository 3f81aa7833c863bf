import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from preceptor.errors import DataError, NeedsError, NonFiniteError, StorageError
from preceptor.teachers.base import Teacher
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.live import Live
from preceptor.teachers.store import Store
from preceptor.teachers.writing import write_store
from preceptor.types import Batch, Dense, Needs, Signal
from tests.teachers.small import CLASSES, batch_of, cnn

NAMES: dict[str, Any] = {"teacher_hash": "t", "data_hash": "d"}


class Counting(Teacher):
    """Answers with numbers made of the ids and views, and remembers whom it was asked about."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    def signal(self, batch: Batch) -> Signal:
        self.asked += batch.ids.tolist()
        base = batch.ids.float() + batch.view.float() / 8
        return Signal(Dense(base.unsqueeze(-1) / 16 + torch.arange(float(CLASSES))))


def batches(count: int = 40, views: int = 1) -> Iterator[Batch]:
    for view in range(views):
        for start in range(0, count, 4):
            yield batch_of(list(range(start, start + 4)), min(view, 2))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def everything(folder: Path) -> torch.Tensor:
    return Store.open(folder).read(torch.arange(40), torch.zeros(40, dtype=torch.int64))


def test_writing_again_asks_nobody_and_changes_nothing(tmp_path: Path) -> None:
    write_store(tmp_path, Counting(), batches(), **NAMES)
    before, again = contents(tmp_path), Counting()
    write_store(tmp_path, again, batches(), **NAMES)
    assert not again.asked
    assert contents(tmp_path) == before


def interrupted(folder: Path, after: int) -> None:
    """A store whose writing stopped after some batches."""

    def some() -> Iterator[Batch]:
        for index, batch in enumerate(batches()):
            if index == after:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        write_store(folder, Counting(), some(), **NAMES, shard_rows=8)


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9])
def test_stopped_anywhere_it_goes_on_at_its_last_shard(tmp_path: Path, after: int) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    write_store(whole, Counting(), batches(), **NAMES, shard_rows=8)
    interrupted(part, after)
    with pytest.raises(StorageError, match=r"not finished|no manifest"):
        Store.open(part)
    teacher = Counting()
    write_store(part, teacher, batches(), **NAMES, shard_rows=8)
    assert teacher.asked == list(range(after // 2 * 8, 40))
    assert contents(part) == contents(whole)


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    write_store(whole, Counting(), batches(), **NAMES, shard_rows=8)
    interrupted(part, 5)
    # Killed between a shard and its manifest, and in the middle of the next file.
    (part / "shard-00002.npy").write_bytes((whole / "shard-00002.npy").read_bytes())
    (part / ".tmp-shard-00003.npy").write_bytes((whole / "shard-00003.npy").read_bytes()[:50])
    write_store(part, Counting(), batches(), **NAMES, shard_rows=8)
    assert contents(part) == contents(whole)


@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_shard_is_written_again_and_no_other(tmp_path: Path, finished: bool) -> None:
    if finished:
        write_store(tmp_path, Counting(), batches(), **NAMES, shard_rows=8)
    else:
        interrupted(tmp_path, 6)
    path = tmp_path / "shard-00001.npy"
    path.write_bytes(path.read_bytes()[:100])
    teacher = Counting()
    write_store(tmp_path, teacher, batches(), **NAMES, shard_rows=8)
    assert teacher.asked == list(range(8, 16)) + ([] if finished else list(range(24, 40)))
    expected = Counting().signal(batch_of(list(range(40)))).logits
    assert torch.equal(everything(tmp_path), expected)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_writing import Counting, NAMES, batches
from preceptor.teachers.writing import write_store

def until_killed():
    for index, batch in enumerate(batches()):
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

write_store(Path(sys.argv[1]), Counting(), until_killed(), **NAMES, shard_rows=8)
"""


def test_a_process_killed_while_writing_loses_at_most_one_shard(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    here = str(Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), here], check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(StorageError, match="not finished"):
        Store.open(folder)
    teacher = Counting()
    write_store(folder, teacher, batches(), **NAMES, shard_rows=8)
    assert teacher.asked == list(range(16, 40))
    assert torch.equal(everything(folder), Counting().signal(batch_of(list(range(40)))).logits)


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_store(tmp_path, Counting(), batches(), **NAMES, shard_rows=8)
    assert not list(tmp_path.glob(".tmp-*"))
    teacher = Counting()
    write_store(tmp_path, teacher, batches(), **NAMES, shard_rows=8)
    assert teacher.asked == list(range(16, 40))


@pytest.mark.parametrize(
    "other", [{"teacher_hash": "x"}, {"data_hash": "x"}, {"views": 2}, {"dtype": "float16"}]
)
def test_a_folder_of_another_store_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    write_store(tmp_path, Counting(), batches(), **NAMES)
    with pytest.raises(StorageError, match="another folder"):
        write_store(tmp_path, Counting(), batches(), **(NAMES | other))


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="came twice"):
        write_store(tmp_path / "a", Counting(), [batch_of([1, 2]), batch_of([2, 3])], **NAMES)
    with pytest.raises(DataError, match="came twice"):
        write_store(tmp_path / "b", Counting(), [batch_of([1, 1])], **NAMES)


def test_the_same_id_in_two_views_is_two_rows(tmp_path: Path) -> None:
    write_store(tmp_path, Counting(), batches(8, views=2), **NAMES, views=2)
    assert len(Store.open(tmp_path)) == 16


@pytest.mark.parametrize(("ids", "view"), [([-1], 0), ([1], 1), ([1 << 31], 0)])
def test_keys_outside_what_is_declared_are_refused(
    tmp_path: Path, ids: list[int], view: int
) -> None:
    batch = Batch(torch.zeros(1, 3), ids=torch.tensor(ids), view=torch.tensor([view]))
    with pytest.raises(DataError, match="Number the examples"):
        write_store(tmp_path, Counting(), [batch], **NAMES)


def test_half_precision_halves_the_size_and_rounds(tmp_path: Path) -> None:
    write_store(tmp_path, Live(cnn()), batches(), **NAMES, dtype="float16")
    expected = Live(cnn()).signal(batch_of(list(range(40)))).logits
    found = everything(tmp_path)
    assert found.dtype == torch.float16
    assert torch.allclose(found.float(), expected, rtol=1e-3, atol=1e-4)


class Odd(Counting):
    """Answers with one given tensor."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def signal(self, batch: Batch) -> Signal:
        return Signal(Dense(self.logits[: len(batch)]))


@pytest.mark.parametrize(
    ("value", "dtype"), [(float("nan"), "float32"), (float("inf"), "float32"), (1e6, "float16")]
)
def test_logits_that_are_no_numbers_are_refused_by_id(
    tmp_path: Path, value: float, dtype: str
) -> None:
    logits = torch.zeros(2, CLASSES)
    logits[1, 2] = value
    with pytest.raises(NonFiniteError, match=r"ids \[7\]"):
        write_store(tmp_path, Odd(logits), [batch_of([3, 7])], **NAMES, dtype=cast("Any", dtype))


def test_text_and_changing_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NeedsError, match="one row an example"):
        write_store(tmp_path / "a", Odd(torch.zeros(1, 4, 5)), [batch_of([1])], **NAMES)

    class Growing(Counting):
        def signal(self, batch: Batch) -> Signal:
            return Signal(Dense(torch.zeros(len(batch), 2 + int(batch.ids[0]))))

    with pytest.raises(StorageError, match="3 classes for a store of 2"):
        write_store(tmp_path / "b", Growing(), [batch_of([0]), batch_of([1])], **NAMES)


def test_a_teacher_without_raw_logits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NeedsError, match="no raw logits"):
        write_store(tmp_path, Ensemble([Counting()]), batches(), **NAMES)


def test_a_store_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no batch"):
        write_store(tmp_path, Counting(), [], **NAMES)


def test_rows_hold_no_pickle(tmp_path: Path) -> None:
    write_store(tmp_path, Counting(), batches(), **NAMES)
    rows = np.load(tmp_path / "shard-00000.npy", allow_pickle=False)
    assert rows.dtype.names == ("id", "view", "logits")
    assert rows["id"].tolist() == list(range(40))
