"""Batches of text are a function of seed, step, rank and world."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from preceptor.data.chat import Rendering
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.data.text_stream import TextStream
from preceptor.errors import DataError
from preceptor.types import Batch
from tests.data.tokens import ask, characters, document

ROWS = [ask("a" * (1 + i % 5), "b" * (1 + i * 7 % 11), number=i) for i in range(22)]
TOKENIZER = characters()


def rendering(length: int = 64, **options: Any) -> Rendering:
    return Rendering(TOKENIZER, length, **options)


def source(batch: int = 4, **options: Any) -> TextSource:
    return TextSource(TextSet(ROWS, rendering()), batch=batch, **options)


def stream(batch: int = 4, **options: Any) -> TextStream:
    told: dict[str, Any] = {"steps_per_epoch": 5, "block": 6} | options
    return TextStream(ROWS, rendering(), batch=batch, **told)


MAKERS = [source, lambda **o: source(bucket=3, **o), lambda **o: source(pack=64, **o), stream]


def scored(batch: Batch) -> list[tuple[int, int, int]]:
    """Row, offset and label of every scored position; a row may be there twice between epochs."""
    row, offset, mask = batch.extra["row"], batch.extra["offset"], batch.mask("all")
    found = zip(row[mask].tolist(), offset[mask].tolist(), batch.labels[mask].tolist(), strict=True)
    return sorted(found)


def width(batch: Batch) -> int:
    return batch.labels.shape[1]


@pytest.mark.parametrize("make", MAKERS)
def test_processes_share_what_one_would_take(make: Any) -> None:
    alone, two = make(), [make(), make()]
    for _ in range(8):
        whole = alone.take()
        first, second = (s.take(rank, 2) for rank, s in enumerate(two))
        assert sorted(scored(first) + scored(second)) == scored(whole)
        assert width(first) == width(second)
        assert len(first) == len(second)


@pytest.mark.parametrize("make", MAKERS)
def test_a_resumed_run_draws_what_it_would_have_drawn(make: Any) -> None:
    first, again = make(), make()
    for _ in range(7):
        first.take()
    again.load_state(first.state())
    assert again.state() == first.state()
    for _ in range(6):
        expected, found = first.take(), again.take()
        assert torch.equal(expected.labels, found.labels)
        assert torch.equal(expected.ids, found.ids)
    with pytest.raises(DataError, match="new folder"):
        make(batch=6).load_state(first.state())


@pytest.mark.parametrize("make", MAKERS)
def test_a_sample_takes_nothing_from_the_stream(make: Any) -> None:
    first, again = make(), make()
    assert len(first.sample(3)) == 3
    assert first.sample(2).mask("all").any()
    assert scored(first.take()) == scored(again.take())
    with pytest.raises(DataError, match="Ask for fewer"):
        first.sample(1000)
    assert isinstance(first, Source)
    assert first.num_classes == len(TOKENIZER)


@pytest.mark.parametrize("make", MAKERS)
def test_uneven_processes_are_refused(make: Any) -> None:
    with pytest.raises(DataError, match="on 3 processes"):
        make().take(0, 3)


def test_an_epoch_holds_every_example_once_in_another_order_each_time() -> None:
    drawn = [source(batch=11).drawn(step) for step in range(4)]
    first, second = np.concatenate(drawn[:2]), np.concatenate(drawn[2:])
    assert sorted(first) == sorted(second) == list(range(22))
    assert first.tolist() != second.tolist()
    assert source(batch=11, seed=1).drawn(0).tolist() != drawn[0].tolist()


def test_what_is_drawn_is_what_is_taken() -> None:
    taken = source()
    assert taken.take().ids.tolist() == source().drawn(0).tolist()
    assert taken.step == 1
    assert source().steps_per_epoch == 6


def test_buckets_hold_the_same_examples_with_less_padding() -> None:
    plain, bucketed = source(batch=2), source(batch=2, bucket=11)
    every = [np.concatenate([s.drawn(i) for i in range(11)]) for s in (plain, bucketed)]
    assert sorted(every[0]) == sorted(every[1]) == list(range(22))
    lengths = plain.texts.lengths

    def spread(drawn: TextSource) -> int:
        return sum(int(np.ptp(lengths[drawn.drawn(i)])) for i in range(11))

    assert spread(bucketed) < spread(plain)


def test_packed_steps_hold_the_same_positions_in_fewer_sequences() -> None:
    plain, packing = source(batch=8), source(batch=8, pack=64)
    for _ in range(3):
        apart, together = plain.take(), packing.take()
        assert scored(together) == scored(apart)
        assert len(together) < len(apart)
        assert isinstance(together.inputs, dict)
        assert set(together.inputs) == {"input_ids", "position_ids"}
    with pytest.raises(DataError, match=r"ask.jsonl:\d+ has \d+ tokens.*sequences of 8"):
        source(pack=8)


def test_the_teachers_sequences_have_one_length_on_every_process() -> None:
    rows = [ask("a", "b", number=i, teacher_prompt="c" * (3 * i + 1)) for i in range(8)]
    for options in ({}, {"pack": 64}):
        sources = [TextSource(TextSet(rows, rendering()), batch=4, **options) for _ in range(2)]
        for _ in range(3):
            first, second = (s.take(rank, 2) for rank, s in enumerate(sources))
            shapes = [_ids(batch.teacher_inputs).shape for batch in (first, second)]
            assert shapes[0] == shapes[1]


def _ids(inputs: Any) -> Tensor:
    return inputs["input_ids"]


def test_a_stream_gives_every_row_once_a_pass_with_the_same_id() -> None:
    reading = stream(batch=11)
    passes = [sorted(scored(reading.take()) + scored(reading.take())) for _ in range(2)]
    in_memory = TextSet(ROWS, rendering())
    assert passes[0] == passes[1] == scored(in_memory.batch(range(22)))
    assert reading.num_examples == 0


def test_a_stream_shuffles_within_blocks_by_its_seed() -> None:
    first, again, other = stream(), stream(), stream(seed=1)
    ids = [s.take().ids.tolist() for s in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert max(ids[0]) < 6


def test_a_stream_cuts_documents_into_windows_and_drops_long_rows() -> None:
    rows = [document("a" * 40), ask("b" * 40, "c", number=1), ask("d", "e", number=2)]
    reading = TextStream(rows, rendering(30, truncate="drop"), batch=3, steps_per_epoch=1, block=1)
    first = reading.take()
    assert sorted(first.ids.tolist()) == [0, 1, 2]
    assert torch.equal(first.labels.sort(0).values, reading.take().labels.sort(0).values)


def test_streams_that_cannot_be_read_again_or_are_empty_are_refused() -> None:
    with pytest.raises(DataError, match="an iterator"):
        TextStream(iter(ROWS), rendering(), batch=2, steps_per_epoch=1)
    with pytest.raises(DataError, match="it has no rows"):
        TextStream([], rendering(), batch=2, steps_per_epoch=1).take()
    with pytest.raises(DataError, match="none fits into the context"):
        TextStream(ROWS, rendering(4, truncate="drop"), batch=2, steps_per_epoch=1).take()
