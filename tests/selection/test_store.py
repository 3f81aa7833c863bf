import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preceptor.errors import DataError, NeedsError, StorageError
from preceptor.selection.features import Features
from preceptor.selection.probe import Probe
from preceptor.selection.store import Extract, FeatureStore
from tests.selection.random_features import isotropic, probe
from tests.selection.test_features import same

PROMPTS = np.arange(40)


class Counting:
    """Extracts features whose last bits depend on the batch, as those of a real pass do."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, prompts: np.ndarray) -> Features:
        self.asked.append(prompts.tolist())
        features = isotropic(40, 2, 8, spread=1.0).of(prompts)
        features.sketches[:] *= np.float32(1 + 1e-6 * prompts.sum())
        return features


def store(folder: Path, extract: Extract, **told: Any) -> FeatureStore:
    responses = told.pop("responses", "teacher")
    return FeatureStore(folder, probe(8, **told), responses, extract, piece=8)


def stopping(extract: Extract, after: int, stop: Callable[[], object]) -> Extract:
    calls = 0

    def extracted(prompts: np.ndarray) -> Features:
        nonlocal calls
        calls += 1
        if calls > after:
            stop()
        return extract(prompts)

    return extracted


def stop() -> None:
    raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_there_is_not_asked_again(tmp_path: Path) -> None:
    extract = Counting()
    kept = store(tmp_path, extract)
    first = kept(PROMPTS[:20])
    assert np.array_equal(first.every_prompt, PROMPTS[:20])
    assert extract.asked == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    extract.asked.clear()
    assert same(store(tmp_path, extract)(PROMPTS[:20]), first)
    assert same(store(tmp_path, extract)(PROMPTS[5:9]), first.of(PROMPTS[5:9]))
    assert not extract.asked
    kept(PROMPTS)
    assert extract.asked == [list(range(20, 24)), list(range(24, 32)), list(range(32, 40))]


@pytest.mark.parametrize("after", [0, 1, 4])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(tmp_path: Path, after: int) -> None:
    whole = store(tmp_path / "whole", Counting())(PROMPTS)
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        store(part, stopping(Counting(), after, stop))(PROMPTS)
    assert len(store(part, Counting()).prompts) == 8 * after
    extract = Counting()
    assert same(store(part, extract)(PROMPTS), whole)
    assert len(extract.asked) == 5 - after
    assert contents(part) == contents(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.selection.test_store import PROMPTS, Counting, stopping, store

kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
store(Path(sys.argv[1]), stopping(Counting(), 3, kill))(PROMPTS)
"""


def test_a_killed_process_loses_at_most_the_piece_that_it_was_at(tmp_path: Path) -> None:
    whole = store(tmp_path / "whole", Counting())(PROMPTS)
    part, root = tmp_path / "part", str(Path(__file__).parents[2])
    killed = subprocess.run([sys.executable, "-c", KILLED, str(part), root], check=False)
    assert killed.returncode == -signal.SIGKILL
    (part / ".tmp-123-shard-00003.safetensors").write_bytes(b"half")
    extract = Counting()
    assert same(store(part, extract)(PROMPTS), whole)
    assert extract.asked == [list(range(24, 32)), list(range(32, 40))]
    assert contents(part) == contents(tmp_path / "whole")


def test_a_damaged_shard_is_taken_again_to_the_same_bits(tmp_path: Path) -> None:
    whole = store(tmp_path, Counting())(PROMPTS)
    path = tmp_path / "shard-00001.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(damaged)
    extract = Counting()
    assert same(store(tmp_path, extract)(PROMPTS), whole)
    assert extract.asked == [list(range(8, 16))]
    assert not path.exists()


@pytest.mark.parametrize(
    "told",
    [
        {"student": "other"},
        {"data": "other"},
        {"responses": "other"},
        {"seed": 9},
        {"kind": "head"},
        {"details": {"inner": 4}},
        {"parameters": 5},
    ],
)
def test_features_of_something_else_are_never_mixed(tmp_path: Path, told: dict[str, Any]) -> None:
    store(tmp_path, Counting())(PROMPTS[:8])
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"of {next(iter(told))} .*cannot be mixed"):
        store(tmp_path, Counting(), **told)
    assert contents(tmp_path) == before


def test_an_extraction_of_other_prompts_is_refused_and_not_kept(tmp_path: Path) -> None:
    kept = store(tmp_path, lambda prompts: Counting()(prompts[1:]))
    with pytest.raises(DataError, match="7 prompts were extracted"):
        kept(PROMPTS)
    assert not contents(tmp_path)


def test_an_extraction_by_another_projection_is_refused(tmp_path: Path) -> None:
    other = FeatureStore(tmp_path, Probe("a", "data", "exact", 8, 9), "teacher", Counting())
    with pytest.raises(NeedsError, match="what was extracted has student"):
        other(PROMPTS)


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store(tmp_path / "whole", Counting())(PROMPTS)
    flush, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="the disk is full"):
            store(tmp_path / "part", Counting())(PROMPTS)
    extract = Counting()
    assert same(store(tmp_path / "part", extract)(PROMPTS), whole)
    assert len(extract.asked) == 3
