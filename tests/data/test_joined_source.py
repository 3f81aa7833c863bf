"""A stream of text for a student and a teacher of two tokenisers."""

from typing import Any

import pytest
import torch

from preceptor.data.chat import Rendering
from preceptor.data.compose import compose
from preceptor.data.joined_source import JoinedSource
from preceptor.data.rows import Row
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.data.two_tokenisers import TwoTokenisers
from preceptor.errors import DataError
from tests.data.fixed_source import Fixed
from tests.data.trained_tokenizers import bpe, characters, ids

PAIRS = [("the sum of 12 and 1234?", " is 1246."), ("naïve?", " the café 🙂 is"), ("a?", " 12")]


def texts(tokenizer: Any, count: int = 3) -> TextSet:
    rows = [
        Row(i, f"row {i}", prompt=prompt, completion=said)
        for i, (prompt, said) in enumerate(PAIRS[:count])
    ]
    return TextSet(rows, Rendering(tokenizer, max_length=64))


def test_a_stream_of_data_is_joined_row_by_row_whatever_the_order() -> None:
    both = TwoTokenisers.of(characters(), bpe())
    own = texts(characters())
    source = JoinedSource(TextSource(own, batch=2, seed=3), texts(bpe()), both)
    sampled = source.sample(2)
    assert both.coverage.tokens == 0
    assert "aligned" in sampled.masks
    seen: set[int] = set()
    for _ in range(source.steps_per_epoch):
        batch = source.take()
        seen |= set(batch.ids.tolist())
        assert (batch.masks["aligned"].any(dim=1)).all()
    assert seen == {0, 1, 2}
    assert both.coverage.share == 1.0
    plain = TextSource(own, batch=2, seed=3)
    plain.load_state(source.state())
    assert torch.equal(plain.take().labels, source.take().labels)


def test_what_the_student_wrote_is_read_by_the_teacher_in_its_own_tokens() -> None:
    both = TwoTokenisers.of(characters(), bpe())
    own, theirs = texts(characters()), texts(bpe())
    end = characters().eos_token_id
    said = [[*ids(characters(), " the answer"), end], ids(characters(), " 12 and 12")]
    written = own.compose([2, 0, 1], [*said, []], ["student", "student", "data"])
    fixed = Fixed(own.vocabulary, written)
    source = JoinedSource(fixed, theirs, both)
    batch = source.take()
    assert both.coverage.share == 1.0
    for row, (index, text) in enumerate([(2, " the answer"), (0, " 12 and 12")]):
        labels = batch.extra["teacher_labels"][row]
        expected = [*ids(bpe(), text), *([bpe().eos_token_id] if row == 0 else [])]
        assert labels[labels >= 0].tolist() == expected
        inputs = batch.teacher_inputs
        assert isinstance(inputs, dict)
        prompt = theirs.prompts([index])[0]
        assert inputs["input_ids"][row, : len(prompt)].tolist() == prompt.tolist()


def test_a_character_cut_short_reads_as_unknown_to_the_teacher() -> None:
    both = TwoTokenisers.of(bpe(), characters())
    sampled = ids(bpe(), "the answer 文")[:-1]
    batch = compose([[5]], [sampled], "student", ids=[0])
    assert both.translated(batch, 0)[:-1] == ids(characters(), "the answer ")
    assert both.translated(batch, 0)[-1] == characters().unk_token_id


def test_two_sets_of_other_examples_are_refused() -> None:
    both = TwoTokenisers.of(characters(), bpe())
    with pytest.raises(DataError, match="3 examples to the student and 2 to the teacher"):
        JoinedSource(TextSource(texts(characters()), batch=2), texts(bpe(), 2), both)
