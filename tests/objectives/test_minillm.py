from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import NeedsError
from preceptor.objectives.ce import CE
from preceptor.objectives.minillm import MiniLLM
from preceptor.objectives.reverse_kl import ReverseKL
from preceptor.types import Batch, Dense, Outputs, Signal, Terms
from tests.objectives.by_slices import CLASSES, assert_slices_are_the_whole, batch_of_two
from tests.objectives.random_logits import gradient, pair


def terms_on(objective: MiniLLM, t: Tensor, s: Tensor, batch: Batch) -> Terms:
    return objective.terms(Outputs(s), Signal(Dense(t)), batch, nn.Module())


def one_token(token: int, **extra: float) -> Batch:
    """A sequence of one token that the student wrote."""
    numbers: dict[str, Any] = {"advantage": 0.0, "importance": 1.0, "sampled_log_q": 0.0, **extra}
    return Batch(
        torch.zeros(1, 1),
        labels=torch.tensor([[token]]),
        masks={"student_written": torch.ones(1, 1, dtype=torch.bool)},
        extra={name: torch.tensor([[value]]).double() for name, value in numbers.items()},
    )


def test_the_single_step_is_reverse_kl_times_the_importance() -> None:
    t, s = pair(2, 6, CLASSES)
    batch = batch_of_two()
    plain = ReverseKL().terms(Outputs(s), Signal(Dense(t)), batch, nn.Module())["reverse_kl"]
    read = batch.mask("student_written")
    found = terms_on(MiniLLM(), t, s, batch)["minillm.single"]
    expected = batch.extra["importance"] * plain.values
    torch.testing.assert_close(found.values[read], expected[read])
    assert found.over == "student_written"


def test_on_fresh_samples_the_long_terms_gradient_is_reinforce() -> None:
    t, s = pair(2, 6, CLASSES)
    s.requires_grad_()
    base = batch_of_two()
    log_q = torch.log_softmax(s, -1).gather(-1, base.labels.clamp_min(0)[..., None])[..., 0]
    extra = {**base.extra, "sampled_log_q": log_q.detach(), "importance": torch.ones(2, 6)}
    batch = batch_of_two(extra=extra)
    read = batch.mask("student_written")
    ours = terms_on(MiniLLM(), t, s, batch)["minillm.long"].values[read].sum()
    reinforce = -(extra["advantage"] * log_q)[read].sum()
    torch.testing.assert_close(gradient(ours, s), gradient(reinforce, s))


def test_over_all_tokens_the_expected_gradient_is_that_of_the_expected_advantage() -> None:
    # What the policy gradient is for: sum_y q(y) A(y), differentiated through q, from samples of
    # a mixture with the teacher, weighted by q over it.
    t, s = pair(1, 1, CLASSES)
    s.requires_grad_()
    advantages = torch.linspace(-1, 2, CLASSES).double()
    q = torch.softmax(s, -1)[0, 0]
    mixed = (0.8 * q + 0.2 * torch.softmax(t, -1)[0, 0]).detach()
    expected = -(q * advantages).sum()
    total = torch.zeros(1, 1, CLASSES).double()
    for y in range(CLASSES):
        old = q[y].detach()
        batch = one_token(
            y,
            advantage=advantages[y].item(),
            importance=(old / mixed[y]).item(),
            sampled_log_q=old.log().item(),
        )
        # The weight is at most 1.25 here; a narrower clip would bias what lies beyond it.
        long = terms_on(MiniLLM(clip=1 - 1e-9), t, s, batch)["minillm.long"].values.sum()
        total += mixed[y] * gradient(long, s)
    torch.testing.assert_close(total, gradient(expected, s))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.1, 1.0, -1.1, True),
        (1.5, 1.0, -1.2, False),  # good, and already likelier by more than the clip: left alone
        (0.5, 1.0, -0.5, True),
        (0.5, -1.0, 0.8, False),  # bad, and already less likely: left alone
        (1.5, -1.0, 1.5, True),
    ],
)
def test_the_clip_by_hand(ratio: float, advantage: float, loss: float, moves: bool) -> None:
    t, s = pair(1, 1, CLASSES)
    s.requires_grad_()
    log_q = torch.log_softmax(s.detach(), -1)[0, 0, 3].item()
    # Half of the ratio comes from the importance weight: it is inside the clip.
    old = log_q - torch.tensor(ratio / 0.5).double().log().item()
    batch = one_token(3, advantage=advantage, importance=0.5, sampled_log_q=old)
    long = terms_on(MiniLLM(clip=0.2), t, s, batch)["minillm.long"].values.sum()
    assert long.item() == pytest.approx(loss)
    assert bool(gradient(long, s).any()) == moves


def test_the_sampled_tokens_probability_is_read_at_the_students_temperature() -> None:
    t, s = pair(1, 1, CLASSES)
    log_q = torch.log_softmax(s / 2, -1)[0, 0, 3].item()
    batch = one_token(3, advantage=1.0, sampled_log_q=log_q)
    long = terms_on(MiniLLM(temperature=2.0), t, s, batch)["minillm.long"].values
    assert long.item() == pytest.approx(-1.0)


def test_nothing_that_sampling_left_gets_a_gradient() -> None:
    # A peer's port left a graph inside the advantage.
    t, s = pair(2, 6, CLASSES)
    base = batch_of_two()
    extra = {name: value.clone().requires_grad_() for name, value in base.extra.items()}
    terms = terms_on(MiniLLM(), t, s.requires_grad_(), batch_of_two(extra=extra))
    torch.stack([term.values.sum() for term in terms.values()]).sum().backward()
    assert all(value.grad is None for value in extra.values())


def test_other_text_adds_nothing_even_where_its_numbers_are_missing() -> None:
    t, s = pair(2, 6, CLASSES)
    s.requires_grad_()
    batch = batch_of_two()
    read = batch.mask("student_written")
    holes = {name: value.masked_fill(~read, torch.nan) for name, value in batch.extra.items()}
    for name, term in terms_on(MiniLLM(), t, s, batch_of_two(extra=holes)).items():
        assert not term.values[~read].any(), name
        assert gradient(term.values.sum(), s).isfinite().all(), name


def test_the_pre_training_part_is_cross_entropy_over_other_positions() -> None:
    t, s = pair(2, 6, CLASSES)
    masks = batch_of_two().masks
    batch = batch_of_two(masks={**masks, "data": masks["teacher_written"]})
    both = MiniLLM() + CE(over="data")
    terms = both.terms(Outputs(s), Signal(Dense(t)), batch, nn.ModuleList([nn.Module()] * 2))
    assert {name: term.over for name, term in terms.items()} == {
        "minillm.single": "student_written",
        "minillm.long": "student_written",
        "ce": "data",
    }
    assert both.needs().masks == {"student_written", "data"}


def test_text_without_what_sampling_leaves_is_refused_in_words() -> None:
    t, s = pair(2, 6, CLASSES)
    with pytest.raises(NeedsError, match="read the batch's 'importance'"):
        terms_on(MiniLLM(), t, s, batch_of_two(extra={}))


def test_slices_of_a_projection_are_the_whole() -> None:
    assert_slices_are_the_whole(MiniLLM())
