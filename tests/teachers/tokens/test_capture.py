import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from preceptor.data.collate import collated
from preceptor.distributions import Dense, Projected, TopK
from preceptor.errors import (
    DataError,
    ModelError,
    NeedsError,
    NonFiniteError,
    RecipeError,
    StorageError,
)
from preceptor.models.tapped import TappedModel
from preceptor.teachers.live import Live
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.codecs import DenseCodec, SampledCodec, TopKCodec
from preceptor.teachers.tokens.store import TokenStore
from preceptor.types import Batch, Signal
from tests.teachers.tokens.prose import IDENTITY, VOCABULARY, Reader, batch_of, batches, example

KEPT: dict[str, Any] = {
    "identity": IDENTITY,
    "codec": TopKCodec(k=9),
    "shard_positions": 50,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def everything(folder: Path) -> torch.Tensor:
    found = CachedTokens(TokenStore.open(folder)).signal(batch_of(range(40))).distribution
    assert isinstance(found, TopK)
    return found.log_p


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_tokens(folder, Reader(), batches(), **KEPT)
    return folder


def test_writing_again_asks_nobody_and_changes_nothing(whole: Path) -> None:
    before, again = contents(whole), Reader()
    write_tokens(whole, again, batches(), **KEPT)
    assert not again.asked
    assert contents(whole) == before


def test_two_captures_are_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    write_tokens(tmp_path, Reader(), batches(), **KEPT)
    assert contents(tmp_path) == contents(whole)
    assert len(TokenStore.open(tmp_path).manifest.shards) > 3


@pytest.mark.parametrize("after", [0, 1, 4, 9])
def test_stopped_anywhere_it_goes_on_and_no_row_is_asked_twice(
    whole: Path, tmp_path: Path, after: int
) -> None:
    def some() -> Iterator[Batch]:
        for index, batch in enumerate(batches()):
            if index == after:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        write_tokens(tmp_path, Reader(), some(), **KEPT)
    with pytest.raises(StorageError, match=r"not finished|no manifest"):
        TokenStore.open(tmp_path)
    teacher = Reader()
    write_tokens(tmp_path, teacher, batches(), **KEPT)
    assert teacher.asked == list(range(4 * after, 40))
    assert torch.equal(everything(tmp_path), everything(whole))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.teachers.tokens.prose import Reader, batches
from tests.teachers.tokens.test_capture import KEPT
from preceptor.teachers.tokens.capture import write_tokens

def until_killed():
    for index, batch in enumerate(batches()):
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

write_tokens(Path(sys.argv[1]), Reader(), until_killed(), **KEPT)
"""


def test_a_process_killed_while_writing_loses_at_most_one_shard(
    whole: Path, tmp_path: Path
) -> None:
    folder, root = tmp_path / "cache", str(Path(__file__).parents[3])
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), root], check=False)
    assert killed.returncode == -signal.SIGKILL
    (folder / ".tmp-shard-00009.safetensors").write_bytes(b"half")
    with pytest.raises(StorageError, match="not finished"):
        TokenStore.open(folder)
    there = TokenStore.open(folder, partial=True)
    assert there.manifest.positions >= 50 * len(there.manifest.shards)
    assert 28 - len(there) <= 12
    teacher = Reader()
    write_tokens(folder, teacher, batches(), **KEPT)
    assert teacher.asked == list(range(len(there), 40))
    assert contents(folder) == contents(whole)


def test_a_full_disk_keeps_what_is_finished(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        write_tokens(tmp_path, Reader(), batches(), **KEPT)
    assert not list(tmp_path.glob(".tmp-*"))
    assert len(TokenStore.open(tmp_path, partial=True).manifest.shards) == 2
    write_tokens(tmp_path, Reader(), batches(), **KEPT)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("which", [0, 2])
def test_a_damaged_shard_is_written_again_and_no_other(
    whole: Path, tmp_path: Path, which: int
) -> None:
    write_tokens(tmp_path, Reader(), batches(), **KEPT)
    path = tmp_path / f"shard-{which:05d}.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    teacher = Reader()
    write_tokens(tmp_path, teacher, batches(), **KEPT)
    assert 0 < len(teacher.asked) <= 12
    assert torch.equal(everything(tmp_path), everything(whole))


class Broken(Reader):
    """Answers a token of one row with NaN."""

    def signal(self, batch: Batch) -> Signal:
        found = super().signal(batch).distribution
        assert isinstance(found, Projected)
        at = (batch.extra["row"] == 17) & (batch.extra["offset"] == 2)
        return Signal(Projected(found.hidden.masked_fill(at.unsqueeze(-1), torch.nan), found.head))


@pytest.mark.parametrize("codec", [TopKCodec(k=9), SampledCodec(), DenseCodec()])
def test_a_bad_answer_names_its_row_and_loses_nothing(tmp_path: Path, codec: Any) -> None:
    kept = {**KEPT, "codec": codec}
    with pytest.raises(NonFiniteError, match=r"rows 17 \(token 2\)"):
        write_tokens(tmp_path, Broken(), batches(), **kept)
    teacher = Reader()
    write_tokens(tmp_path, teacher, batches(), **kept)
    assert teacher.asked == list(range(16, 40))


def test_logits_too_large_for_the_precision_are_refused(tmp_path: Path) -> None:
    kept = {**KEPT, "codec": DenseCodec()}
    with pytest.raises(NonFiniteError, match="precision"):
        write_tokens(tmp_path, Reader(steep=1e5), batches(4), **kept)


def test_one_number_for_two_texts_is_refused(tmp_path: Path) -> None:
    other = [batch_of([3]), collated([replace(example(4), row=3)], pad=0)]
    with pytest.raises(DataError, match="row 3 came with other tokens"):
        write_tokens(tmp_path, Reader(), other, **KEPT)


def test_a_row_that_comes_twice_is_written_once(tmp_path: Path) -> None:
    write_tokens(tmp_path, Reader(), [batch_of([3, 3]), batch_of([3, 4])], **KEPT)
    assert TokenStore.open(tmp_path).rows.tolist() == [3, 4]


def test_nothing_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no scored token"):
        write_tokens(tmp_path, Reader(), [], **KEPT)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="120 classes"):
        write_tokens(tmp_path, Reader(vocabulary=120), batches(), **KEPT)


def test_more_than_the_teacher_gives_is_refused(tmp_path: Path) -> None:
    write_tokens(tmp_path / "a", Reader(), batches(8), **KEPT)
    teacher = CachedTokens(TokenStore.open(tmp_path / "a"))
    for number, codec in enumerate((TopKCodec(k=10), SampledCodec(), DenseCodec())):
        kept = {**KEPT, "codec": codec}
        with pytest.raises(NeedsError):
            write_tokens(tmp_path / f"b{number}", teacher, batches(8), **kept)


def test_settings_out_of_range_are_refused() -> None:
    for make in (lambda: TopKCodec(k=0), lambda: TopKCodec(levels=1), lambda: SampledCodec(0)):
        with pytest.raises(RecipeError):
            make()


class Watching(Reader):
    """Hands out a projection that notes the largest slice anyone took of it."""

    def __init__(self) -> None:
        super().__init__(vocabulary=30_000)
        self.slices: list[int] = []

    def signal(self, batch: Batch) -> Signal:
        found = super().signal(batch).distribution
        assert isinstance(found, Projected)
        outer = self

        class Noting(Projected):
            def at(self, index: torch.Tensor) -> Dense:
                outer.slices.append(len(index))
                return super().at(index)

        return Signal(Noting(found.hidden, found.head))


def test_no_more_than_a_slice_of_logits_exists(tmp_path: Path) -> None:
    teacher = Watching()
    batch = batch_of(range(100))
    identity = replace(IDENTITY, vocabulary=30_000)
    write_tokens(tmp_path, teacher, [batch], **{**KEPT, "identity": identity})
    assert sum(teacher.slices) == int(batch.mask("all").sum())
    assert max(teacher.slices) * 30_000 <= 1 << 22 < sum(teacher.slices) * 30_000


def test_decoding_keeps_the_promised_divergence(tmp_path: Path) -> None:
    for steep, temperature in ((0.0, 1.0), (1.0, 1.0), (6.0, 1.0), (6.0, 4.0)):
        codec = TopKCodec(k=50, temperature=temperature)
        teacher = Reader(steep=steep)
        folder = tmp_path / f"{steep}-{temperature}"
        write_tokens(folder, teacher, batches(), identity=IDENTITY, codec=codec)
        batch = batch_of(range(40))
        found = CachedTokens(TokenStore.open(folder)).signal(batch).distribution
        index = batch.mask("all").flatten().nonzero().squeeze(1)
        assert isinstance(found, TopK)
        found, live = found.at(index), teacher.signal(batch).distribution.at(index)
        assert isinstance(live, Dense)
        log_p = live.log_probs(temperature)
        kept = log_p.gather(-1, found.ids)
        assert torch.equal(kept.sort(dim=-1).values, log_p.topk(50).values.flip(-1))
        rest = log_p.scatter(-1, found.ids, -torch.inf).logsumexp(dim=-1, keepdim=True)
        exact = torch.cat([kept, rest], dim=-1)
        decoded = torch.cat([found.log_p, found.log_tail.unsqueeze(-1)], dim=-1)
        assert torch.allclose(decoded.exp().sum(dim=-1), torch.ones(len(index)), atol=1e-5)
        kl = (decoded.exp() * (decoded - exact)).sum(dim=-1)
        assert kl.mean() < 1e-3


def test_a_real_language_model_is_captured_and_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY + 7,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    module = AutoModelForCausalLM.from_config(config)
    teacher = Live(TappedModel(module, causal=True, vocabulary=VOCABULARY))
    codec = TopKCodec(k=VOCABULARY, levels=65_535)
    write_tokens(tmp_path, teacher, batches(), **{**KEPT, "codec": codec})
    batch = batch_of([20, 3])
    found = CachedTokens(TokenStore.open(tmp_path)).signal(batch).distribution
    assert isinstance(found, TopK)
    index = batch.mask("all").flatten().nonzero().squeeze(1)
    exact = teacher.signal(batch).distribution.at(index)
    assert isinstance(exact, Dense)
    # Every class, by ascending id: as if it were dense.
    assert np.array_equal(found.at(index).ids[0], np.arange(VOCABULARY))
    assert torch.allclose(found.at(index).log_p, exact.log_probs(1.0), atol=1e-3)
