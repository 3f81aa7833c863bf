"""Who writes a step's responses, what of them is scored, and that a resumed run writes the same."""

import copy
import json

import numpy as np
import pytest
import torch

from preceptor.data.chat import Rendering
from preceptor.data.text_source import TextSource
from preceptor.errors import DataError, RecipeError
from preceptor.models.sampling import Sampling
from preceptor.objectives.schedules import Ramp
from preceptor.synthesis.rollouts import Rollouts
from preceptor.synthesis.writers import Local
from preceptor.types import Batch
from tests.data.tokens import CHATML, characters
from tests.synthesis.small import ROWS, Scripted, local, model, source, texts


def same(first: Batch, second: Batch) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in [
            (ids(first), ids(second)),
            (first.labels, second.labels),
            (first.mask("student_written"), second.mask("student_written")),
            (first.ids, second.ids),
        ]
    )


def ids(batch: Batch) -> torch.Tensor:
    assert isinstance(batch.inputs, dict)
    return batch.inputs["input_ids"]


def test_a_share_of_nothing_is_the_data_and_a_share_of_one_the_student() -> None:
    plain, never, always = source(), *(Rollouts(source(), local(), share=s) for s in (0.0, 1.0))
    for _ in range(5):
        data, kept, written = plain.take(), never.take(), always.take()
        assert same(data, kept)
        assert written.origin == "student"
        assert torch.equal(written.ids, data.ids)
        assert torch.equal(written.mask("student_written"), written.mask("all"))
        assert not kept.mask("student_written").any()
        assert not written.mask("teacher_written").any()


def test_the_student_writes_the_share_of_steps_that_was_asked_for() -> None:
    mixed = Rollouts(source(), Scripted([5]), teacher=Scripted([6]), share=0.5, teacher_share=0.2)
    origins = [mixed.take().origin for _ in range(300)]
    assert origins.count("student") == pytest.approx(150, abs=30)
    assert origins.count("teacher") == pytest.approx(60, abs=24)


def test_a_share_can_move_with_training() -> None:
    ramp = Ramp(start=0, end=1, over=1)
    mixed = Rollouts(source(), Scripted([5]), share=ramp, steps=200)
    wrote = [mixed.take().origin == "student" for _ in range(200)]
    assert sum(wrote[:50]) < 15
    assert sum(wrote[150:]) > 35


def test_the_response_and_its_end_are_scored_and_nothing_else() -> None:
    end = texts().rendering.end
    assert end is not None
    batch = Rollouts(source(), Scripted([40, 41, end]), share=1.0).take()
    prompts = texts().prompts(batch.ids)
    for row, prompt in enumerate(prompts):
        places = batch.mask("all")[row].nonzero().flatten().tolist()
        assert places == [len(prompt) - 1, len(prompt), len(prompt) + 1]
        assert batch.labels[row, places].tolist() == [40, 41, end]


def test_a_response_that_was_cut_has_no_end_scored() -> None:
    end = texts().rendering.end
    batch = Rollouts(source(), Scripted([40, 41], ended=False), share=1.0).take()
    assert batch.labels[batch.mask("all")].tolist() == [40, 41] * 4
    assert end not in batch.labels


def test_a_response_that_ends_at_once_scores_its_end_though_padding_is_the_same_token() -> None:
    told = TextSource(texts(), batch=4)
    told.texts.rendering.tokenizer.pad_token = told.texts.rendering.tokenizer.eos_token
    end = told.texts.rendering.end
    assert told.texts.rendering.pad == end
    batch = Rollouts(told, Scripted([end or 0]), share=1.0).take()
    assert batch.mask("all").sum() == 4
    assert batch.labels[batch.mask("all")].tolist() == [end] * 4


def test_coins_and_rollouts_go_on_after_a_resume_as_if_nothing_had_happened() -> None:
    def made() -> Rollouts:
        ramp = Ramp(start=0.2, end=0.9)
        return Rollouts(source(), local(), share=ramp, steps=12, seed=3)

    whole, begun, resumed = made(), made(), made()
    batches = [whole.take() for _ in range(12)]
    for _ in range(5):
        begun.take()
    resumed.load_state(json.loads(json.dumps(begun.state())))
    torch.manual_seed(99)
    np.random.seed(99)
    assert {batch.origin for batch in batches[5:]} == {"data", "student"}
    assert all(same(batch, resumed.take()) for batch in batches[5:])


def test_the_state_of_another_mixture_is_refused() -> None:
    state = Rollouts(source(), local(), share=0.5).state()
    for other in (
        Rollouts(source(), local(), share=0.6),
        Rollouts(source(), local(), share=0.5, seed=1),
    ):
        with pytest.raises(DataError, match="mixes or writes responses otherwise"):
            other.load_state(state)


def test_ranks_write_the_rows_that_one_process_would_write() -> None:
    alone, *ranks = (Rollouts(source(), local(), share=0.6, seed=1) for _ in range(3))
    for _ in range(6):
        whole = alone.take()
        for rank, each in enumerate(ranks):
            own = each.take(rank, 2)
            assert own.origin == whole.origin
            for row, other in enumerate(range(rank, 4, 2)):
                mask, wholes = own.mask("all")[row], whole.mask("all")[other]
                assert own.labels[row][mask].tolist() == whole.labels[other][wholes].tolist()


def test_the_student_of_the_moment_writes() -> None:
    student = model()
    writer = Local(student, Sampling(6), ends=[])
    before = copy.deepcopy(writer)
    rollouts = Rollouts(source(), writer, share=1.0)
    old = Rollouts(source(), before, share=1.0)
    assert same(rollouts.take(), old.take())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert not same(rollouts.take(), old.take())


def test_a_prompt_drawn_twice_gets_two_responses() -> None:
    several = Rollouts(TextSource(texts(), batch=22), local(), share=1.0)
    batch = several.take()
    said: dict[int, set[tuple[int, ...]]] = {}
    for row, example in enumerate(batch.ids.tolist()):
        said.setdefault(example, set()).add(tuple(batch.labels[row].tolist()))
    assert all(len(responses) == 2 for responses in said.values())


def test_recorded_log_probabilities_stand_where_their_tokens_are_predicted() -> None:
    batch = Rollouts(source(), local(record=True), share=1.0).take()
    assert isinstance(batch.inputs, dict)
    with torch.no_grad():
        logits = model().module(**batch.inputs).logits
    labels = batch.labels.clamp_min(0)[..., None]
    exact = torch.log_softmax(logits.float(), -1).gather(-1, labels).squeeze(-1)
    mask = batch.mask("all")
    torch.testing.assert_close(batch.extra["sampled_log_q"][mask], exact[mask], atol=1e-4, rtol=0)
    assert (batch.extra["sampled_log_q"][~mask] == 0).all()


def test_sampling_temperature_changes_what_is_written_and_no_recorded_number() -> None:
    cold = Local(model(), Sampling(6, temperature=1e-4), ends=[], record=True)
    prompts = texts().prompts([0, 1])
    found = cold(prompts, [1, 2])
    for prompt, response, log_q in zip(prompts, found.ids, found.log_q, strict=True):
        whole = torch.tensor([[*prompt.tolist(), *response.tolist()]])
        with torch.no_grad():
            rows = torch.log_softmax(model().module(input_ids=whole).logits[0].float(), -1)
        exact = rows[len(prompt) - 1 : -1].gather(-1, torch.tensor(response)[:, None])
        np.testing.assert_allclose(log_q, exact.squeeze(-1).numpy(), atol=1e-4)


def test_a_teacher_writes_after_its_own_prompt_and_ends_as_the_student_does() -> None:
    own = Rendering(characters(None), 48)
    other = CHATML.replace("<|end|>", "<|system|>")
    theirs = Rendering(characters(other), 48)
    assert own.end != theirs.end
    assert theirs.end is not None
    teacher = Scripted([40, theirs.end])
    told = TextSource(texts(theirs), batch=4)
    batch = Rollouts(told, Scripted([5]), share=0.0, teacher=teacher, teacher_share=1.0).take()
    prompts, _ = teacher.asked[0]
    assert "user" in theirs.tokenizer.decode(prompts[0])
    assert batch.labels[batch.mask("teacher_written")].tolist() == [40, own.end] * 4


def test_every_batch_of_the_stream_has_the_same_masks() -> None:
    mixed = Rollouts(source(), Scripted([5]), share=0.5)
    assert {tuple(sorted(mixed.take().masks)) for _ in range(8)} == {
        ("student_written", "teacher_written")
    }
    assert mixed.sample(2).origin == "data"


def test_shares_that_cannot_be_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"a share of 1\.2"):
        Rollouts(source(), local(), share=1.2)
    with pytest.raises(RecipeError, match="come to at most 1"):
        Rollouts(source(), local(), share=0.7, teacher=local(), teacher_share=0.4)
    with pytest.raises(RecipeError, match="Give `steps`"):
        Rollouts(source(), local(), share=Ramp())
    with pytest.raises(RecipeError, match="without a teacher"):
        Rollouts(source(), local(), teacher_share=0.1)
    with pytest.raises(DataError, match="3 processes"):
        Rollouts(source(), local(), share=1.0).take(0, 3)
    assert len(ROWS) == 11
