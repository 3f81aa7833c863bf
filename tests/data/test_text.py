"""Batches of text: shifted once, masked by lengths, the same for every padding."""

import numpy as np
import pytest
import torch
from torch import Tensor

from preceptor.data.chat import Rendering
from preceptor.data.rows import Row
from preceptor.data.text import TextSet, compose
from preceptor.errors import DataError, ModelError
from preceptor.types import Batch
from tests.data.tokens import CHATML, THINKING, ask, characters, chat, document, pieces, turns

END = "<|end|>"
ROWS = [ask("1+1=", "2"), chat("hi", "yo", "and", "bye", number=1), document("abcde", 2)]


def texts(rows: list[Row] | None = None, teacher: Rendering | None = None) -> TextSet:
    return TextSet(rows or ROWS, Rendering(characters(), 64), teacher)


def ids_of(inputs: object) -> Tensor:
    assert isinstance(inputs, dict)
    return inputs["input_ids"]


def labels_as_text(texts: TextSet, batch: Batch, index: int) -> str:
    labels = batch.labels[index]
    return texts.rendering.tokenizer.decode(labels[labels >= 0])


def teacher_reads(batch: Batch) -> Tensor:
    """What follows each place in the teacher's sequence; -1 where it has none."""
    places = batch.teacher_positions
    assert places is not None
    following = ids_of(batch.teacher_inputs).gather(1, (places + 1).clamp_min(0))
    return following.masked_fill(places < 0, -1)


def test_a_scored_position_is_the_one_before_the_token_that_it_predicts() -> None:
    batch = texts().batch([0, 1, 2])
    ids = ids_of(batch.inputs)
    for i, t in batch.mask("all").nonzero().tolist():
        assert batch.labels[i, t] == ids[i, t + 1]
    assert labels_as_text(texts(), batch, 0) == "2" + END
    assert labels_as_text(texts(), batch, 1) == f"yo{END}bye{END}"
    assert labels_as_text(texts(), batch, 2) == "abcde" + END
    assert torch.equal(batch.mask("all"), batch.labels >= 0)


def test_each_position_knows_its_row_and_its_number_in_it() -> None:
    batch = texts().batch([2, 0])
    row, offset = batch.extra["row"], batch.extra["offset"]
    mask = batch.mask("all")
    assert batch.ids.tolist() == [2, 0]
    assert row[0][mask[0]].tolist() == [2] * 6
    assert offset[0][mask[0]].tolist() == [0, 1, 2, 3, 4, 5]
    assert (row[~mask] == -1).all()
    assert (offset[~mask] == -1).all()


def test_padding_changes_no_number() -> None:
    short, long = texts().batch([0, 1]), texts().batch([0, 1], length=60)
    width = short.labels.shape[1]
    assert torch.equal(long.labels[:, :width], short.labels)
    assert (long.labels[:, width:] == -1).all()
    assert width % 8 == 0
    assert long.labels.shape == (2, 60)


def test_masks_do_not_ask_what_the_padding_is() -> None:
    tokenizer = characters()
    tokenizer.pad_token = tokenizer.eos_token
    same = TextSet(ROWS, Rendering(tokenizer, 64)).batch([0, 1, 2])
    assert torch.equal(same.labels, texts().batch([0, 1, 2]).labels)
    assert isinstance(same.inputs, dict)
    assert torch.equal(
        same.inputs["attention_mask"].sum(1), torch.from_numpy(texts().lengths[[0, 1, 2]])
    )


def test_bytes_are_those_of_what_is_scored() -> None:
    assert texts().bytes([0, 1, 2]).tolist() == [1, 5, 5]
    prose = TextSet([document("naïve 你好")], Rendering(pieces(), 64))
    assert prose.bytes([0]).tolist() == [len("naïve 你好".encode())]


def test_evaluation_sees_every_example_once() -> None:
    batches = list(texts().batches(2))
    assert torch.cat([batch.ids for batch in batches]).tolist() == [0, 1, 2]
    assert texts().scored.tolist() == [int(b) for b in texts().batch([0, 1, 2]).mask("all").sum(1)]


def test_windows_are_examples_of_their_document() -> None:
    set_ = TextSet([document("a" * 30), document("b", 1)], Rendering(characters(), 16))
    assert len(set_) == 4
    assert [set_.row(i).place for i in range(4)] == ["text.txt:1"] * 3 + ["text.txt:2"]


def test_all_rows_that_are_too_long_are_named_before_anything_is_trained() -> None:
    rows = [ask("a" * 60, "b", number=i) for i in range(3)]
    with pytest.raises(DataError, match=r"3 rows are refused: ask.jsonl:1 .*jsonl:2.*jsonl:3"):
        texts(rows)
    dropping = Rendering(characters(), 64, truncate="drop")
    kept = TextSet([*rows, ask("a", "b", number=3)], dropping)
    assert kept.dropped == ("ask.jsonl:1", "ask.jsonl:2", "ask.jsonl:3")
    assert len(kept) == 1
    with pytest.raises(DataError, match="the training set is empty"):
        TextSet(rows, dropping)


def test_a_fingerprint_knows_rows_template_and_what_the_teacher_sees() -> None:
    same, others = texts().fingerprint, texts(ROWS[:2]).fingerprint
    templated = TextSet(ROWS, Rendering(characters(THINKING), 64, turns="last")).fingerprint
    taught = texts([ask("1+1=", "2", teacher_prompt="one and one")]).fingerprint
    assert texts().fingerprint == same
    assert len({same, others, templated, taught, texts(ROWS[:1]).fingerprint}) == 5


# The teacher's side.


def test_a_teacher_with_the_same_template_sees_the_same_tensors() -> None:
    batch = texts(teacher=Rendering(characters(), 100)).batch([0, 1, 2])
    assert batch.teacher_positions is None
    assert batch.teacher_inputs is batch.inputs


def test_a_teachers_template_stands_before_the_same_response_ids() -> None:
    template = CHATML.replace("\n", " ")
    teacher = Rendering(pieces(template), 100, system="Be kind.")
    set_ = TextSet(ROWS, Rendering(pieces(), 64), teacher)
    batch = set_.batch([0, 1, 2])
    assert torch.equal(teacher_reads(batch), batch.labels)
    read = teacher.tokenizer.decode(ids_of(batch.teacher_inputs)[0])
    assert read.startswith(f"<|system|> Be kind.{END} <|user|> 1+1={END} <|assistant|> 2{END}")
    # A document has no template: both read the same.
    assert torch.equal(ids_of(batch.teacher_inputs)[2][:8], ids_of(batch.inputs)[2][:8])


def test_a_teacher_may_see_another_prompt_for_the_same_response() -> None:
    rows = [
        ask("1+1=", "2", teacher_prompt="The answer is 2. 1+1="),
        chat("a", "b", "c", "d", number=1, teacher_messages=turns("long story")),
    ]
    set_ = texts(rows)
    batch = set_.batch([0, 1])
    tokenizer = set_.rendering.tokenizer
    theirs = [tokenizer.decode(ids) for ids in set_.teacher_prompts([0, 1])]
    assert theirs[0] == f"<|user|>\nThe answer is 2. 1+1={END}\n<|assistant|>\n"
    assert theirs[1] == f"<|user|>\nlong story{END}\n<|assistant|>\n"
    # Only the last response has a teacher's answer, so it alone is scored.
    assert labels_as_text(set_, batch, 1) == "d" + END
    assert torch.equal(teacher_reads(batch), batch.labels)


def test_the_token_that_ends_a_response_is_each_models_own() -> None:
    teacher = Rendering(characters(CHATML.replace(END, "<|tool|>")), 100)
    batch = texts([ask("a", "b")], teacher).batch([0])
    own, theirs = (teacher.tokenizer.convert_tokens_to_ids(t) for t in (END, "<|tool|>"))
    assert batch.labels[batch.labels >= 0].tolist()[-1] == own
    read = teacher_reads(batch)
    assert read[read >= 0].tolist()[-1] == theirs
    assert torch.equal(read >= 0, batch.labels >= 0)


def test_a_teacher_that_would_think_first_is_refused() -> None:
    student = Rendering(characters(THINKING), 100, variables={"enable_thinking": False})
    thinker = Rendering(characters(THINKING), 100)
    with pytest.raises(DataError, match=r"ask.jsonl:1: .*'b'.*'<think></think>b'.*enable_thinking"):
        TextSet([ask("a", "b")], student, thinker)
    assert TextSet([ask("a", "b")], student, student).batch([0]).teacher_positions is None


def test_two_vocabularies_of_one_size_are_told_apart() -> None:
    first = characters()
    backend = first.backend_tokenizer.to_str()
    swapped = type(first)(
        tokenizer_object=type(first.backend_tokenizer).from_str(
            backend.replace('"a":', '"SWAP":').replace('"b":', '"a":').replace('"SWAP":', '"b":')
        ),
        eos_token=END,
    )
    assert len(swapped) == len(first)
    with pytest.raises(ModelError, match="an id must mean the same"):
        TextSet(ROWS, Rendering(first, 64), Rendering(swapped, 64, plain=True))


def test_a_teachers_context_may_be_too_short() -> None:
    row = ask("a" * 10, "b")
    with pytest.raises(DataError, match=r"as the teacher sees it.*context holds 12"):
        texts([row], Rendering(characters(), 12))
    cut = Rendering(characters(), 12, truncate="left")
    batch = texts([row], cut).batch([0])
    assert torch.equal(teacher_reads(batch), batch.labels)


# Responses that somebody else wrote.


def test_a_response_of_the_student_is_masked_as_its_own() -> None:
    set_ = texts()
    data, written = set_.responses([0])[0], np.array([40, 41, set_.rendering.end])
    extra = {"sampled_log_p": [[0.0, 0.0], [-1.0, -2.0, -3.0]]}
    batch = set_.compose([0, 0], [data, written], ["data", "student"], extra=extra)
    mask = batch.mask("all")
    assert batch.mask("student_written").sum(1).tolist() == [0, 3]
    assert not batch.mask("teacher_written").any()
    assert torch.equal(mask[1], batch.mask("student_written")[1])
    assert batch.labels[1][mask[1]].tolist() == [40, 41, set_.rendering.end]
    assert batch.extra["sampled_log_p"][1][mask[1]].tolist() == [-1.0, -2.0, -3.0]
    # No cache holds what the student wrote.
    assert (batch.extra["row"][1] == -1).all()
    assert batch.extra["row"][0][mask[0]].tolist() == [0, 0]
    assert batch.ids.tolist() == [0, 0]
    assert batch.origin == "data"
    assert set_.compose([0], [written], "student").origin == "student"


def test_rows_of_the_data_are_the_same_composed_or_not() -> None:
    set_ = texts()
    plain, composed = set_.batch([1, 0]), set_.compose([1, 0], [[], []], "data")
    assert torch.equal(plain.labels, composed.labels)
    assert all(torch.equal(plain.extra[n], composed.extra[n]) for n in ("row", "offset"))


def test_a_written_response_stands_behind_the_teachers_prompt_too() -> None:
    rows = [ask("1+1=", "2", teacher_prompt="Think. 1+1=")]
    set_ = texts(rows)
    batch = set_.compose([0], [[40, 41]], "teacher")
    assert torch.equal(teacher_reads(batch), batch.labels)
    by_hand = compose(
        set_.prompts([0]), [[40, 41]], "teacher", ids=[0], teacher_prompts=set_.teacher_prompts([0])
    )
    assert torch.equal(by_hand.labels, batch.labels)
    assert by_hand.mask("teacher_written").sum() == 2


def test_an_empty_response_scores_nothing_and_an_empty_prompt_is_refused() -> None:
    assert not texts().compose([0], [[]], "student").mask("all").any()
    with pytest.raises(DataError, match="row 7 has no prompt"):
        compose([[]], [[1]], "student", ids=[7])
    with pytest.raises(DataError, match="1 origins for 2 responses"):
        compose([[1], [1]], [[1], [1]], ["data"], ids=[0, 1])
