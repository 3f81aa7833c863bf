import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from preceptor.data.collate import Example, collated
from preceptor.data.packing import packed
from preceptor.distributions import Dense, Sampled, TopK
from preceptor.errors import DataError, NeedsError, StorageError
from preceptor.objectives.base import Objective
from preceptor.objectives.kd import KD
from preceptor.objectives.reduction import mean_loss
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.codecs import AnyCodec, DenseCodec, SampledCodec, TopKCodec
from preceptor.teachers.tokens.manifest import Manifest
from preceptor.teachers.tokens.store import TokenStore
from preceptor.types import Batch, Outputs, Signal
from tests.teachers.tokens.prose import IDENTITY, VOCABULARY, Reader, batch_of, batches, example

EVERY = TopKCodec(k=VOCABULARY, levels=65_535)


def cached(folder: Path, codec: AnyCodec = EVERY, count: int = 40) -> CachedTokens:
    write_tokens(
        folder, Reader(), batches(count), identity=IDENTITY, codec=codec, shard_positions=50
    )
    return CachedTokens(TokenStore.open(folder))


def loss(signal: Signal, batch: Batch, objective: Objective[Any]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    table = torch.randn(VOCABULARY, VOCABULARY, generator=generator)
    assert not isinstance(batch.inputs, torch.Tensor)
    student = Outputs(table[batch.inputs["input_ids"]])
    terms = objective.terms(student, signal, batch, torch.nn.Module())
    return mean_loss(terms, batch)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_cache_of_every_class_is_the_live_teacher(tmp_path: Path, temperature: float) -> None:
    teacher = cached(tmp_path, replace(EVERY, temperature=temperature))
    batch = batch_of([3, 17, 39])
    found, live = teacher.signal(batch).distribution, Reader().signal(batch).distribution
    assert isinstance(found, TopK)
    index = batch.mask("all").flatten().nonzero().squeeze(1)
    exact = live.at(index)
    assert isinstance(exact, Dense)
    p = exact.log_probs(temperature)
    dense = torch.full_like(p, -torch.inf)
    there = found.at(index)
    dense.scatter_(1, there.ids.clamp_min(0), there.log_p)
    assert torch.allclose(dense.exp(), p.exp(), atol=2e-4)
    here = dense.isfinite() & (p > -20)
    assert torch.allclose(dense[here], p[here], atol=5e-3)
    kd = KD(temperature=temperature)
    ours, theirs = loss(teacher.signal(batch), batch, kd), loss(Reader().signal(batch), batch, kd)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dense_logits_come_back_in_their_precision(tmp_path: Path, dtype: Any) -> None:
    teacher = cached(tmp_path, DenseCodec(dtype))
    batch = batch_of([5, 2])
    found, live = teacher.signal(batch).logits, Reader().signal(batch).distribution
    index = batch.mask("all").flatten().nonzero().squeeze(1)
    exact = live.at(index)
    assert isinstance(exact, Dense)
    expected = (exact.logits - exact.logits.amax(-1, keepdim=True)).to(getattr(torch, dtype))
    assert torch.equal(found.flatten(0, 1)[index], expected)


def test_what_is_not_scored_harms_nobody(tmp_path: Path) -> None:
    batch = batch_of([3, 17])
    for number, codec in enumerate((EVERY, SampledCodec(), DenseCodec())):
        teacher = cached(tmp_path / str(number), codec)
        terms = KD(temperature=1).terms(
            Outputs(torch.zeros(*batch.labels.shape, VOCABULARY)),
            teacher.signal(batch),
            batch,
            torch.nn.Module(),
        )
        assert terms["kd"].values.isfinite().all()


@pytest.mark.parametrize("codec", [EVERY, TopKCodec(k=9), SampledCodec(), DenseCodec()])
def test_order_padding_and_packing_change_no_number(tmp_path: Path, codec: AnyCodec) -> None:
    teacher = cached(tmp_path, codec)
    rows = [31, 4, 12, 0, 25]

    def seen(batch: Batch) -> dict[tuple[int, int], list[Any]]:
        distribution = teacher.signal(batch).distribution
        index = batch.mask("all").flatten().nonzero().squeeze(1)
        at = distribution.at(index)
        if isinstance(at, TopK):
            every = zip(at.ids, at.log_p, at.log_tail, strict=True)
        elif isinstance(at, Sampled):
            there = [ids >= 0 for ids in at.ids]
            kept = [ids[t] for ids, t in zip(at.ids, there, strict=True)]
            counts = [c[t] for c, t in zip(at.counts, there, strict=True)]
            every = zip(kept, counts, at.entropy, strict=True)
        else:
            assert isinstance(at, Dense)
            every = zip(at.logits)
        keys = zip(
            batch.extra["row"].flatten()[index].tolist(),
            batch.extra["offset"].flatten()[index].tolist(),
            strict=True,
        )
        told = [[tensor.tolist() for tensor in each] for each in every]
        return dict(zip(keys, told, strict=True))

    plain = seen(batch_of(rows))
    assert len(plain) == sum(2 + row % 8 for row in rows)
    assert seen(batch_of(rows[::-1])) == plain
    assert seen(batch_of(rows, length=40)) == plain
    assert seen(packed(batch_of(rows), [[2, 0], [4, 3, 1]])) == plain
    assert {k: v for row in rows for k, v in seen(batch_of([row])).items()} == plain
    twice = batch_of([4, 4])
    assert seen(twice) == {key: value for key, value in plain.items() if key[0] == 4}


def test_capture_in_other_batches_stores_the_same_draws(tmp_path: Path) -> None:
    codec, batch = SampledCodec(seed=5), batch_of([7, 8, 30])
    first = cached(tmp_path / "a", codec)
    plain = [batch_of([row]) for row in range(39, -1, -1)]
    write_tokens(tmp_path / "b", Reader(), plain, identity=IDENTITY, codec=codec)
    second = CachedTokens(TokenStore.open(tmp_path / "b"))
    one, two = first.signal(batch).distribution, second.signal(batch).distribution
    assert isinstance(one, Sampled)
    assert isinstance(two, Sampled)
    assert torch.equal(one.ids, two.ids)
    assert torch.equal(one.counts, two.counts)
    assert torch.equal(one.entropy, two.entropy)


def test_a_row_that_is_not_there_is_named(tmp_path: Path) -> None:
    teacher = cached(tmp_path, count=8)
    with pytest.raises(NeedsError, match=r"rows 9, 40.*holds 8 rows"):
        teacher.signal(batch_of([3, 9, 40]))


def test_a_row_with_other_tokens_is_named(tmp_path: Path) -> None:
    teacher = cached(tmp_path, count=8)
    other = example(3)
    other.ids[-1] = (other.ids[-1] + 1) % VOCABULARY
    with pytest.raises(NeedsError, match=r"rows \[3\].*other tokens"):
        teacher.signal(collated([example(2), other], pad=0))
    swapped = example(7)
    swapped.ids[[-1, -2]] = swapped.ids[[-2, -1]]
    assert swapped.ids[-1] != swapped.ids[-2]
    with pytest.raises(NeedsError, match=r"rows \[7\].*other tokens"):
        teacher.signal(collated([swapped], pad=0))
    short = Example(example(5).ids[:-1], example(5).scored[:-1], 5)
    with pytest.raises(NeedsError, match=r"row 5: 6 here, 7 there"):
        teacher.signal(collated([short], pad=0))


def test_text_that_is_no_row_is_refused(tmp_path: Path) -> None:
    teacher = cached(tmp_path, count=8)
    written = replace(example(3), origin="student")
    with pytest.raises(NeedsError, match="Routed"):
        teacher.signal(collated([example(2), written], pad=0))
    batch = batch_of([2])
    plain = Batch(batch.inputs, labels=batch.labels, mask=batch.mask("all"))
    with pytest.raises(NeedsError, match="row of its positions"):
        teacher.signal(plain)


def test_a_row_in_part_is_refused(tmp_path: Path) -> None:
    teacher = cached(tmp_path, count=8)
    batch = batch_of([2, 5])
    mask = batch.mask("all").clone()
    mask[1, :3] = False
    cut = Batch(**{**batch.fields(), "mask": mask, "labels": batch.labels.masked_fill(~mask, -1)})
    with pytest.raises(DataError, match=r"rows \[5\] are not there from first to last"):
        teacher.signal(cut)


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ("teacher", "weights"),
        ("tokenizer", "tokenizer"),
        ("template", "template"),
        ("data", "rows"),
        ("vocabulary", "97"),
    ],
)
def test_every_mismatch_is_refused_in_words(tmp_path: Path, part: str, word: str) -> None:
    cached(tmp_path, count=4)
    manifest = Manifest.read(tmp_path)
    manifest.expect(tmp_path, IDENTITY)
    value: Any = 98 if part == "vocabulary" else "another"
    other = replace(IDENTITY, **{part: value})
    with pytest.raises(StorageError, match=rf"is of {part} {word}: this run has {part} {value}"):
        manifest.expect(tmp_path, other)
    with pytest.raises(StorageError, match="another folder"):
        write_tokens(tmp_path, Reader(), batches(4), identity=other, codec=EVERY)


def test_all_mismatches_are_named_at_once(tmp_path: Path) -> None:
    cached(tmp_path, count=4)
    other = replace(IDENTITY, teacher="x", data="y")
    with pytest.raises(StorageError, match=r"teacher weights, data rows: .* teacher x, data y"):
        Manifest.read(tmp_path).expect(tmp_path, other)


@pytest.mark.parametrize(
    "codec", [replace(EVERY, temperature=2.0), replace(EVERY, k=5), SampledCodec(), DenseCodec()]
)
def test_a_cache_kept_otherwise_is_refused(tmp_path: Path, codec: AnyCodec) -> None:
    cached(tmp_path, count=4)
    with pytest.raises(StorageError, match="keeps TopKCodec"):
        write_tokens(tmp_path, Reader(), batches(4), identity=IDENTITY, codec=codec)


def test_another_temperature_is_refused_before_and_while_training(tmp_path: Path) -> None:
    teacher = cached(tmp_path, replace(EVERY, temperature=2.0), count=4)
    (unmet,) = KD(temperature=1).needs().unmet_by(teacher.offers())
    assert "temperature 1, given: 2 alone" in unmet
    assert not KD(temperature=2).needs().unmet_by(teacher.offers())
    batch = batch_of([1, 2])
    with pytest.raises(NeedsError, match="temperature"):
        loss(teacher.signal(batch), batch, KD(temperature=1))


def test_draws_are_refused_where_they_would_bias(tmp_path: Path) -> None:
    offers = cached(tmp_path, SampledCodec(), count=4).offers()
    assert not KD(temperature=1).needs().unmet_by(offers)
    (unmet,) = replace(KD(temperature=1).needs(), linear=False).unmet_by(offers)
    assert "draws would bias it" in unmet


@pytest.mark.parametrize("place", [10, 0.5, -1])
def test_one_changed_byte_is_named(tmp_path: Path, place: float) -> None:
    cached(tmp_path)
    path = tmp_path / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    at = int(place * len(content)) if isinstance(place, float) else place
    content[at] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StorageError, match=r"shard-00001.*changed"):
        TokenStore.open(tmp_path)


@pytest.mark.parametrize("how", ["missing", "short", "manifest", "format", "none"])
def test_what_is_broken_is_said(tmp_path: Path, how: str) -> None:
    cached(tmp_path)
    shard, manifest = tmp_path / "shard-00000.safetensors", tmp_path / "manifest.json"
    if how == "missing":
        shard.unlink()
    elif how == "short":
        os.truncate(shard, 100)
    elif how == "manifest":
        manifest.write_text(manifest.read_text()[:200])
    elif how == "format":
        manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    else:
        manifest.unlink()
    with pytest.raises(StorageError, match=r"missing|cannot be read|format 2|no manifest"):
        TokenStore.open(tmp_path)


def test_a_dense_table_is_never_made_of_row_numbers(tmp_path: Path) -> None:
    far = replace(example(5), row=10**15)
    batch = collated([far, example(2)], pad=0)
    write_tokens(tmp_path, Reader(), [batch], identity=IDENTITY, codec=EVERY)
    store = TokenStore.open(tmp_path)
    assert store.rows.tolist() == [2, 10**15]
    assert isinstance(CachedTokens(store).signal(batch).distribution, TopK)
