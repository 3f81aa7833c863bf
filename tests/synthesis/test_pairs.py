"""DistiLLM-2's batches: both writers' responses to the same prompts."""

import json

import pytest
import torch

from preceptor.data.chat import Rendering
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.errors import DataError
from preceptor.synthesis.pairs import Pairs
from tests.data.tokens import ask, characters
from tests.synthesis.small import Scripted, local, source, texts
from tests.synthesis.test_rollouts import same


def test_each_prompt_has_the_teachers_response_and_the_students() -> None:
    end = texts().rendering.end or 0
    batch = Pairs(source(), Scripted([40, end]), Scripted([41, end])).take()
    assert len(batch) == 8
    assert torch.equal(batch.ids[:4], batch.ids[4:])
    assert batch.labels[batch.mask("teacher_written")].tolist() == [41, end] * 4
    assert batch.labels[batch.mask("student_written")].tolist() == [40, end] * 4
    assert not batch.mask("teacher_written")[4:].any()
    assert not batch.mask("student_written")[:4].any()


def test_the_datas_responses_stand_for_the_teachers_and_keep_their_place_in_the_cache() -> None:
    data, batch = source().take(), Pairs(source(), Scripted([40])).take()
    ours = batch.rows(0, 4)
    assert torch.equal(ours.mask("teacher_written"), ours.mask("all"))
    wanted = data.labels[data.mask("all")].tolist()
    assert ours.labels[ours.mask("teacher_written")].tolist() == wanted
    assert (ours.extra["row"][ours.mask("all")] >= 0).all()
    assert (batch.rows(4, 8).extra["row"] == -1).all()


def test_a_resume_writes_the_same() -> None:
    def made() -> Pairs:
        return Pairs(source(), local(1), local(2))

    whole, begun, resumed = made(), made(), made()
    batches = [whole.take() for _ in range(4)]
    begun.take()
    resumed.load_state(json.loads(json.dumps(begun.state())))
    assert all(same(batch, resumed.take()) for batch in batches[1:])


def test_a_prompt_alone_needs_a_teacher_that_writes() -> None:
    rows = [ask("1+1=", "2"), ask("2+1=", None, 1)]
    bare = TextSource(TextSet(rows, Rendering(characters(None), 48)), batch=2)
    with pytest.raises(DataError, match=r"ask\.jsonl:2 is a prompt alone"):
        Pairs(bare, Scripted([40]))
    assert len(Pairs(bare, Scripted([40]), Scripted([41])).take()) == 4
