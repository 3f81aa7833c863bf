"""One batch for two models that cut the same text into other tokens."""

from typing import Any

import numpy as np
import pytest
import torch

from preceptor.data.pieces import Pieces
from preceptor.data.two_tokenisers import TwoTokenisers
from preceptor.errors import DataError
from preceptor.types import Batch
from tests.data.trained_tokenizers import bpe, characters, ids

ROWS = [("the sum of 12 and 1234?", " the answer is 1246."), ("naïve?", " the café 🙂 is")]


def rendered(tokenizer: Any, rows: list[tuple[str, str]], before: str = "") -> Batch:
    """Prompts, responses and an end of sequence as one model reads them."""
    each = [
        (ids(tokenizer, before + prompt), [*ids(tokenizer, said), tokenizer.eos_token_id])
        for prompt, said in rows
    ]
    width = max(len(p) + len(r) for p, r in each) + 2
    tokens = torch.full((len(rows), width), tokenizer.eos_token_id)
    attention, labels = torch.zeros_like(tokens), torch.full_like(tokens, -1)
    for row, (prompt, response) in enumerate(each):
        length = len(prompt) + len(response)
        tokens[row, :length] = torch.tensor(prompt + response)
        attention[row, :length] = 1
        labels[row, len(prompt) - 1 : length - 1] = torch.tensor(response)
    return Batch(
        {"input_ids": tokens, "attention_mask": attention},
        labels=labels,
        mask=labels >= 0,
        ids=torch.arange(len(rows)),
    )


def joined(**options: Any) -> tuple[Batch, TwoTokenisers]:
    both = TwoTokenisers.of(characters(), bpe(), **options)
    student = rendered(characters(), ROWS)
    return both.join(student, rendered(bpe(), ROWS, before="Say what is true. ")), both


def said(tokenizer: Any, tokens: torch.Tensor) -> bytes:
    return b"".join(map(Pieces(tokenizer).of, tokens.tolist()))


def test_where_a_chunk_begins_both_models_have_read_the_same_bytes_of_the_response() -> None:
    batch, _ = joined()
    assert batch.teacher_positions is not None
    inputs, others_inputs = batch.inputs, batch.teacher_inputs
    assert isinstance(inputs, dict)
    assert isinstance(others_inputs, dict)
    own, other = inputs["input_ids"], others_inputs["input_ids"]
    first = [int(batch.mask("all")[row].nonzero()[0]) for row in range(2)]
    others_first = [int((batch.extra["teacher_labels"][row] >= 0).nonzero()[0]) for row in range(2)]
    seen = 0
    for row, t in batch.masks["aligned"].nonzero().tolist():
        s = int(batch.teacher_positions[row, t])
        mine = said(characters(), own[row, first[row] + 1 : t + 1])
        theirs = said(bpe(), other[row, others_first[row] + 1 : s + 1])
        assert mine == theirs
        assert ROWS[row][1].encode().startswith(mine)
        seen += 1
    assert seen == int(batch.masks["aligned"].sum()) > 8


def test_both_sides_of_a_chunk_predict_the_same_bytes() -> None:
    batch, _ = joined()
    chunk, others = batch.extra["chunk"], batch.extra["teacher_chunk"]
    for row, t in batch.masks["aligned"].nonzero().tolist():
        mine = said(characters(), batch.labels[row][chunk[row] == t])
        theirs = said(bpe(), batch.extra["teacher_labels"][row][others[row] == t])
        assert mine == theirs
        last = int(batch.labels[row][chunk[row] == t][-1]) == characters().eos_token_id
        assert mine or last


def test_prompts_and_padding_are_in_no_chunk() -> None:
    batch, both = joined()
    assert not (batch.extra["chunk"] >= 0)[~batch.mask("all")].any()
    assert not batch.masks["aligned"][~batch.mask("all")].any()
    assert (batch.extra["teacher_chunk"] >= 0).sum() <= (batch.extra["teacher_labels"] >= 0).sum()
    assert both.coverage.share == 1.0
    assert both.coverage.tokens == int(batch.mask("all").sum())
    assert both.coverage.chunks == int(batch.masks["aligned"].sum())


def test_the_papers_positions_are_those_of_the_same_number_cut_to_the_shorter() -> None:
    batch, _ = joined(positions="order", chunks=False)
    assert batch.teacher_positions is not None
    student, teacher = rendered(characters(), ROWS), rendered(bpe(), ROWS, "Say what is true. ")
    for row in range(2):
        mine = student.mask("all")[row].nonzero().flatten()
        theirs = teacher.mask("all")[row].nonzero().flatten()
        count = min(len(mine), len(theirs))
        assert batch.teacher_positions[row, mine[:count]].tolist() == theirs[:count].tolist()
        assert int(batch.masks["aligned"][row].sum()) == count
    assert "chunk" not in batch.extra


def test_responses_of_a_conversation_are_aligned_one_by_one() -> None:
    both = TwoTokenisers.of(characters(), bpe())

    def two_turns(tokenizer: Any) -> Batch:
        parts = ["the sum?", " is 12", " and?", " the answer is 6912"]
        tokens = [ids(tokenizer, part) for part in parts]
        scored = np.concatenate([np.full(len(t), i % 2) for i, t in enumerate(tokens)]) == 1
        row = torch.tensor([i for part in tokens for i in part])[None]
        labels = torch.full_like(row, -1)
        labels[0, :-1] = torch.where(torch.from_numpy(scored)[1:], row[0, 1:], -1)
        inputs = {"input_ids": row, "attention_mask": torch.ones_like(row)}
        return Batch(inputs, labels=labels, mask=labels >= 0, ids=torch.zeros(1, dtype=torch.int64))

    batch = both.join(two_turns(characters()), two_turns(bpe()))
    assert both.coverage.share == 1.0
    starts = batch.masks["aligned"][0].nonzero().flatten().tolist()
    scored = batch.mask("all")[0].nonzero().flatten().tolist()
    assert starts[0] == scored[0]
    assert int((batch.extra["chunk"] >= 0).sum()) == len(scored)


def test_batches_of_other_rows_are_refused() -> None:
    both = TwoTokenisers.of(characters(), bpe())
    with pytest.raises(DataError, match="the same rows in the same order"):
        both.join(rendered(characters(), ROWS), rendered(bpe(), ROWS[:1]))


def test_rows_of_a_joined_batch_keep_their_chunks() -> None:
    batch, _ = joined()
    second = batch.rows(1, 2)
    assert second.extra["teacher_chunk"].shape[0] == 1
    assert torch.equal(second.extra["chunk"], batch.extra["chunk"][1:])
    assert second.teacher_positions is not None
    assert torch.equal(second.masks["aligned"], second.teacher_positions >= 0)
