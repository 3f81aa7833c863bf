from dataclasses import replace
from pathlib import Path

import pytest
import torch

from preceptor.distributions import Dense, Sampled, TopK
from preceptor.errors import NeedsError, StorageError
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.codecs import AnyCodec, DenseCodec, SampledCodec, TopKCodec
from preceptor.teachers.tokens.inspection import COVERED, inspect
from preceptor.teachers.tokens.resparsify import resparsify
from preceptor.teachers.tokens.store import TokenStore
from tests.teachers.tokens.prose import IDENTITY, VOCABULARY, Reader, batch_of, batches

FINE = TopKCodec(k=40, levels=65_535)


def written(folder: Path, codec: AnyCodec, count: int = 40) -> Path:
    write_tokens(
        folder, Reader(), batches(count), identity=IDENTITY, codec=codec, shard_positions=50
    )
    return folder


def live_log_probs() -> torch.Tensor:
    batch = batch_of(range(40))
    found = Reader().signal(batch).distribution
    at = found.at(batch.mask("all").flatten().nonzero().squeeze(1))
    assert isinstance(at, Dense)
    return at.log_probs(1.0)


def test_inspection_counts_what_is_on_the_disk(tmp_path: Path) -> None:
    found = inspect(written(tmp_path, FINE))
    batch = batch_of(range(40))
    assert (found.rows, found.tokens) == (40, int(batch.mask("all").sum()))
    assert found.looked_at == found.tokens
    assert found.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert found.bytes_per_token == found.bytes / found.tokens
    assert found.entries == 40


def test_covered_mass_is_the_live_teachers(tmp_path: Path) -> None:
    found = inspect(written(tmp_path, FINE))
    mass = live_log_probs().exp().topk(40).values.sum(dim=-1)
    assert found.covered == pytest.approx(mass.mean().item(), abs=1e-4)
    assert sum(found.histogram) == pytest.approx(1)
    assert len(found.histogram) == len(COVERED) - 1
    above = (mass >= 0.99).double().mean().item()
    assert sum(found.histogram[-2:]) == pytest.approx(above, abs=0.02)


@pytest.mark.parametrize(
    ("codec", "slack"), [(SampledCodec(), 1e-3), (DenseCodec("float32"), 1e-5), (FINE, 0.05)]
)
def test_mean_entropy_is_the_live_teachers(tmp_path: Path, codec: AnyCodec, slack: float) -> None:
    log_p = live_log_probs()
    exact = -(log_p.exp() * log_p).sum(dim=-1).mean().item()
    found = inspect(written(tmp_path, codec))
    assert found.entropy == pytest.approx(exact, rel=slack)


def test_the_text_says_it_all(tmp_path: Path) -> None:
    text = str(inspect(written(tmp_path / "a", FINE)))
    for part in ("complete", "bytes a token", "weights", "covered", "99.0% to  99.9%", "at least"):
        assert part in text
    text = str(inspect(written(tmp_path / "b", SampledCodec())))
    assert "covered" not in text
    assert "SampledCodec(draws=50" in text


def test_an_unfinished_cache_is_inspected_too(tmp_path: Path) -> None:
    def some() -> object:
        yield from batches(16)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tokens(tmp_path, Reader(), some(), identity=IDENTITY, codec=FINE)  # pyright: ignore[reportArgumentType]
    found = inspect(tmp_path)
    assert found.rows == 16
    assert "not finished" in str(found)


def test_fewer_are_as_if_fewer_had_been_asked_for(tmp_path: Path) -> None:
    written(tmp_path / "a", FINE)
    resparsify(tmp_path / "a", tmp_path / "b", replace(FINE, k=7), shard_positions=60)
    written(tmp_path / "c", replace(FINE, k=7))
    batch = batch_of([31, 4, 12])
    one, two = (
        CachedTokens(TokenStore.open(tmp_path / name)).signal(batch).distribution for name in "bc"
    )
    assert isinstance(one, TopK)
    assert isinstance(two, TopK)
    assert torch.equal(one.ids, two.ids)
    there = batch.mask("all")
    assert torch.allclose(one.log_p[there], two.log_p[there], atol=2e-3)
    assert torch.allclose(one.log_tail[there], two.log_tail[there], atol=2e-2)
    assert TokenStore.open(tmp_path / "b").manifest.identity == IDENTITY


def test_dense_logits_become_anything(tmp_path: Path) -> None:
    written(tmp_path / "a", DenseCodec("float32"))
    for name, codec in (("b", FINE), ("d", SampledCodec(seed=3))):
        resparsify(tmp_path / "a", tmp_path / name, codec)
        written(tmp_path / f"{name}-live", codec)
        batch = batch_of([31, 4, 12])
        one, two = (
            CachedTokens(TokenStore.open(folder)).signal(batch).distribution
            for folder in (tmp_path / name, tmp_path / f"{name}-live")
        )
        assert isinstance(one, TopK | Sampled)
        assert isinstance(two, TopK | Sampled)
        assert torch.equal(one.ids, two.ids)


def test_making_smaller_goes_on_where_it_stopped(tmp_path: Path) -> None:
    written(tmp_path / "a", FINE)
    kept = replace(FINE, k=7)
    resparsify(tmp_path / "a", tmp_path / "b", kept, shard_positions=60)
    shards = sorted((tmp_path / "b").glob("shard-*"))
    shards[-1].unlink()
    resparsify(tmp_path / "a", tmp_path / "b", kept, shard_positions=60)
    assert inspect(tmp_path / "b").rows == 40


@pytest.mark.parametrize(
    ("held", "asked", "sentence"),
    [
        (FINE, replace(FINE, k=VOCABULARY), "the teacher gives the 40 largest"),
        (FINE, replace(FINE, k=7, temperature=2.0), "temperature"),
        (FINE, SampledCodec(), "largest alone, or draws"),
        (SampledCodec(), replace(FINE, k=3), "largest alone, or draws"),
        (FINE, DenseCodec(), "no raw logits"),
    ],
)
def test_what_is_not_there_is_refused(
    tmp_path: Path, held: AnyCodec, asked: AnyCodec, sentence: str
) -> None:
    written(tmp_path / "a", held, count=8)
    with pytest.raises(NeedsError, match=sentence):
        resparsify(tmp_path / "a", tmp_path / "b", asked)


def test_a_cache_is_never_written_over_itself(tmp_path: Path) -> None:
    written(tmp_path, FINE, count=8)
    with pytest.raises(StorageError, match="into itself"):
        resparsify(tmp_path, tmp_path / ".." / tmp_path.name, replace(FINE, k=7))
