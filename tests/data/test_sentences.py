"""Neighbouring sentences, and batches of them."""

import numpy as np
import pytest
import torch

from preceptor.data.rows import Row, Rows
from preceptor.data.sentences import Pair, SentenceSet, SentenceSource, distinct, neighbours
from preceptor.errors import DataError
from preceptor.types import Batch
from tests.models.encoders import tokenizer

DOCUMENT = """\
The first sentence stands here. The second one follows it at once.
And a third is never alone for long.

A heading

The fifth of them comes after a break! Does the sixth one ask about it?

   >>> print("no prose here")

Nobody stands beside this last sentence.
"""


def rows(*texts: str) -> Rows:
    each = tuple(Row(i, f"t:{i}", text=text) for i, text in enumerate(texts))
    return Rows(each, "test")


def sentences(count: int = 12, max_length: int = 64) -> SentenceSet:
    pairs = [Pair(f"the cat sat {'x' * i}", f"it slept {'y' * i}", "t") for i in range(count)]
    return SentenceSet(pairs, tokenizer(), max_length, name="training")


def ids(batch: Batch) -> list[int]:
    return batch.ids.tolist()


def test_pairs_are_sentences_with_nothing_between() -> None:
    found = [(pair.first, pair.second) for pair in neighbours(rows(DOCUMENT))]
    assert found == [
        ("The first sentence stands here.", "The second one follows it at once."),
        (
            "The fifth of them comes after a break!",
            "Does the sixth one ask about it?",
        ),
    ]


def test_sentences_of_two_documents_are_no_neighbours() -> None:
    assert not list(neighbours(rows("Only one sentence stands here.", "And another stands there.")))


def test_a_sentence_that_was_seen_is_not_seen_again() -> None:
    held, train = [Pair("a", "b", ""), Pair("a", "c", "")], [Pair("d", "b", ""), Pair("e", "f", "")]
    seen: set[str] = set()
    assert list(distinct(held, seen)) == held[:1]
    assert list(distinct(train, seen)) == train[1:]


def test_a_conversation_is_refused_by_name() -> None:
    asked = Rows((Row(0, "chat.jsonl:1", prompt="what"),), "chat")
    with pytest.raises(DataError, match=r"chat\.jsonl:1"):
        list(neighbours(asked))


def test_neighbours_share_a_label_and_padding_is_known_by_length() -> None:
    batch = sentences().batch(np.array([3, 1]))
    assert batch.labels.tolist() == [3, 3, 1, 1]
    assert ids(batch) == [6, 7, 2, 3]
    assert not isinstance(batch.inputs, torch.Tensor)
    lengths = sentences().lengths[[6, 7, 2, 3]]
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == lengths.tolist()


def test_longer_sentences_leave_with_their_neighbours_and_are_counted() -> None:
    shortest = int(np.sort(sentences().lengths.reshape(-1, 2).max(axis=1))[4])
    fewer = sentences(max_length=shortest)
    assert len(fewer) + fewer.left_out == 12
    assert fewer.lengths.max() <= shortest
    with pytest.raises(DataError, match="0 pairs"):
        sentences(max_length=1)


def test_an_epoch_draws_every_pair_and_another_seed_in_another_order() -> None:
    source = SentenceSource(sentences(), batch=8, width=5, seed=1)
    assert source.steps_per_epoch == 3
    drawn = [row for _ in range(3) for row in ids(source.take())]
    assert sorted(drawn) == list(range(24))
    other = SentenceSource(sentences(), batch=8, width=5, seed=2)
    assert [row for _ in range(3) for row in ids(other.take())] != drawn


def test_two_processes_draw_what_one_does_padded_alike() -> None:
    one, two = (SentenceSource(sentences(), batch=8, width=5) for _ in range(2))
    three = SentenceSource(sentences(), batch=8, width=5)
    whole, halves = one.take(), (two.take(0, 2), three.take(1, 2))
    assert sorted(ids(whole)) == sorted(ids(halves[0]) + ids(halves[1]))
    shapes = {tuple(half.inputs["input_ids"].shape) for half in halves}  # pyright: ignore
    assert len(shapes) == 1


def test_a_resumed_source_goes_on_and_refuses_another_ones_state() -> None:
    source = SentenceSource(sentences(), batch=8, width=5)
    source.take()
    state = source.state()
    then = ids(source.take())
    again = SentenceSource(sentences(), batch=8, width=5)
    again.load_state(state)
    assert ids(again.take()) == then
    with pytest.raises(DataError, match="other sentences"):
        SentenceSource(sentences(11), batch=8, width=5).load_state(state)


@pytest.mark.parametrize("batch", [2, 7])
def test_a_batch_that_is_no_pairs_is_refused(batch: int) -> None:
    with pytest.raises(DataError, match="two by two"):
        SentenceSource(sentences(), batch=batch, width=5)


def test_the_sample_takes_nothing() -> None:
    source = SentenceSource(sentences(), batch=8, width=5)
    assert ids(source.sample(3)) == [0, 1, 2]
    assert ids(source.take()) == ids(SentenceSource(sentences(), batch=8, width=5).take())
