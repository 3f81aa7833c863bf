from dataclasses import replace
from pathlib import Path

import pytest
import torch

from preceptor.data.collate import collated
from preceptor.data.packing import packed
from preceptor.distributions import TopK
from preceptor.errors import NeedsError
from preceptor.teachers.contract import check_teacher
from preceptor.teachers.routed import Routed
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.codecs import AnyCodec, SampledCodec, TopKCodec
from preceptor.teachers.tokens.selection import largest
from preceptor.teachers.tokens.store import TokenStore
from preceptor.types import Batch
from tests.teachers.tokens.prose import IDENTITY, Reader, batches, example

KEPT = TopKCodec(k=9, temperature=2.0, levels=65_535)


def cache(folder: Path, codec: AnyCodec = KEPT) -> CachedTokens:
    write_tokens(folder, Reader(), batches(20), identity=IDENTITY, codec=codec)
    return CachedTokens(TokenStore.open(folder))


def mixed(rows: list[int], student: list[int], teacher: list[int]) -> Batch:
    """Rows of the data, some of them with texts that were written anew."""
    examples = [example(row) for row in rows]
    for row in student:
        examples.append(replace(example(100 + row), row=row, origin="student"))
    for row in teacher:
        examples.append(replace(example(200 + row), row=row, origin="teacher"))
    return collated(examples, pad=0)


def bins(found: TopK, batch: Batch) -> TopK:
    return found.at(batch.mask("all").flatten().nonzero().squeeze(1))


def test_rows_come_from_the_cache_and_new_text_from_the_live_teacher(tmp_path: Path) -> None:
    live = Reader()
    teacher = Routed(cache(tmp_path), live)
    batch = mixed([3, 7, 11], [3, 5], [7])
    found = teacher.signal(batch).distribution
    assert isinstance(found, TopK)
    # Only new text was asked about.
    assert live.asked == [3, 5, 7]
    index = batch.mask("all").flatten().nonzero().squeeze(1)
    exact = largest(Reader().signal(batch).distribution.at(index), 9, 2.0)
    at = bins(found, batch)
    assert torch.equal(at.ids, exact.ids)
    assert torch.allclose(at.log_p, exact.log_p, atol=2e-3)
    new = (batch.extra["row"].flatten()[index]) < 0
    assert torch.equal(at.log_p[new], exact.log_p[new])


def test_all_old_asks_nobody_and_all_new_reads_nothing(tmp_path: Path) -> None:
    live = Reader()
    teacher = Routed(cache(tmp_path), live)
    old, new = mixed([1, 2], [], []), mixed([], [1, 2], [])
    from_cache = teacher.cache.signal(old).distribution
    found = teacher.signal(old).distribution
    assert not live.asked
    assert isinstance(found, TopK)
    assert isinstance(from_cache, TopK)
    assert torch.equal(found.log_p, from_cache.log_p)
    fresh = teacher.signal(new).distribution
    assert isinstance(fresh, TopK)
    assert live.asked == [1, 2]
    assert fresh.ids.shape == (*new.labels.shape, 9)


def test_packing_old_and_new_together_keeps_the_cached_bins(tmp_path: Path) -> None:
    teacher = Routed(cache(tmp_path), Reader())
    plain = mixed([3, 7], [5], [])
    together = packed(plain, [[0, 2], [1]])
    one, two = teacher.signal(plain).distribution, teacher.signal(together).distribution
    assert isinstance(one, TopK)
    assert isinstance(two, TopK)

    def of_rows(found: TopK, batch: Batch) -> torch.Tensor:
        there = batch.extra["row"] >= 0
        keys = batch.extra["row"][there] * 100 + batch.extra["offset"][there]
        return found.log_p[there][keys.argsort()]

    assert torch.equal(of_rows(one, plain), of_rows(two, together))


def test_it_keeps_the_contract_of_teachers(tmp_path: Path) -> None:
    teacher = cache(tmp_path / "a")
    check_teacher(teacher, [mixed([3, 7, 11], [], [])])
    check_teacher(Routed(teacher, Reader()), [mixed([3, 7], [5], [6])])
    check_teacher(cache(tmp_path / "b", SampledCodec()), [mixed([3, 7, 11], [], [])])


def test_what_has_no_bins_in_common_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NeedsError, match="sampled cache"):
        Routed(cache(tmp_path / "a", SampledCodec()), Reader())
    bins_alone = cache(tmp_path / "b")
    with pytest.raises(NeedsError, match="every class"):
        Routed(bins_alone, bins_alone)


def test_a_row_that_the_cache_does_not_hold_is_still_refused(tmp_path: Path) -> None:
    teacher = Routed(cache(tmp_path), Reader())
    with pytest.raises(NeedsError, match="rows 33"):
        teacher.signal(mixed([3, 33], [5], []))
