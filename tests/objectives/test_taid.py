import math
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from preceptor.distributions import Dense, TopK
from preceptor.errors import NeedsError
from preceptor.objectives.base import Objective
from preceptor.objectives.kd import KD
from preceptor.objectives.taid import TAID, Interpolation
from preceptor.train.fit import run
from preceptor.types import Batch, Outputs, Progress, Signal
from tests.objectives.by_slices import assert_slices_are_the_whole
from tests.objectives.random_logits import gradient, pair
from tests.train.tiny import training


def at(t: float) -> Interpolation:
    return Interpolation(t)


def values(objective: Objective, t: Tensor, s: Tensor, aux: nn.Module) -> Tensor:
    batch = Batch(s.detach(), mask=torch.ones(s.shape[:-1], dtype=torch.bool))
    return objective.terms(Outputs(s), Signal(Dense(t)), batch, aux)["taid"].values


def test_its_target_is_the_softmax_of_mixed_logits() -> None:
    t, s = pair(6, 7)
    target = torch.softmax(0.7 * s + 0.3 * t, -1)
    expected = (target * (target.log() - torch.log_softmax(s, -1))).sum(-1)
    torch.testing.assert_close(values(TAID(), t, s, at(0.3)), expected, rtol=1e-5, atol=1e-7)


def test_its_gradient_is_the_students_probabilities_less_the_target() -> None:
    # The student inside the target has no gradient.
    t, s = pair(6, 7)
    s.requires_grad_()
    target = torch.softmax((0.25 * s + 0.75 * t).detach(), -1)
    found = gradient(values(TAID(), t, s, at(0.75)).sum(), s)
    torch.testing.assert_close(found, torch.softmax(s.detach(), -1) - target)


def test_at_one_it_is_kd_and_at_zero_nothing() -> None:
    t, s = pair(6, 7)
    plain = KD(temperature=1.0)
    batch = Batch(s, mask=torch.ones(6, dtype=torch.bool))
    kd = plain.terms(Outputs(s), Signal(Dense(t)), batch, nn.Module())["kd"].values
    torch.testing.assert_close(values(TAID(), t, s, at(1.0)), kd)
    nothing = values(TAID(), t, s, at(0.0))
    torch.testing.assert_close(nothing, torch.zeros_like(nothing), rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_class_that_both_rule_out_is_as_if_it_were_not_there(share: float) -> None:
    t, s = pair(6, 4)
    out = torch.full((6, 1), -math.inf, dtype=torch.float64)
    wide = torch.cat([s, out], -1).requires_grad_()
    found = values(TAID(), torch.cat([t, out], -1), wide, at(share))
    torch.testing.assert_close(found, values(TAID(), t, s, at(share)))
    assert gradient(found.sum(), wide).isfinite().all()


def test_what_the_teacher_rules_out_the_target_does_too() -> None:
    t, s = pair(6, 4)
    t[:, 1] = -math.inf
    s.requires_grad_()
    found = values(TAID(), t, s, at(0.4))
    assert found.isfinite().all()
    assert (gradient(found.sum(), s)[:, 1] > 0).all()


def moved(losses: list[float], steps: int, **fields: Any) -> tuple[TAID, Interpolation]:
    objective = TAID(**fields)
    aux = at(objective.start)
    for step, loss in enumerate(losses):
        objective.advance(aux, {}, {"taid": loss}, Progress(step, steps))
    return objective, aux


def test_t_moves_as_the_algorithm_says_by_hand() -> None:
    # Far from the end of the stage the adaptive step leads.
    _, aux = moved([2.0, 1.0, 1.5], 10**9, rate=0.1, momentum=0.5)
    m_1 = 0.5 * 0.0 + 0.5 * (2.0 - 1.0) / 2.0
    t_1 = 0.4 + 0.1 / (1 + math.exp(-m_1)) * (1 - 0.4)
    m_2 = 0.5 * m_1 + 0.5 * (1.0 - 1.5) / 1.0
    t_2 = t_1 + 0.1 / (1 + math.exp(-m_2)) * (1 - t_1)
    assert aux.t.item() == pytest.approx(t_2, rel=1e-6)
    assert aux.momentum.item() == pytest.approx(m_2, rel=1e-6)
    assert aux.loss.item() == 1.5


def test_the_first_step_is_only_remembered() -> None:
    _, aux = moved([2.0], 10)
    assert aux.t.item() == pytest.approx(0.4)
    assert aux.loss.item() == 2.0


def test_t_is_never_behind_the_straight_line_and_ends_at_its_end() -> None:
    objective, aux = moved([1.0] * 51, 100, rate=0.0)
    assert aux.t.item() == pytest.approx(0.4 + 0.6 * 0.5)
    for step in range(51, 101):
        objective.advance(aux, {}, {"taid": 1.0}, Progress(step, 100))
    assert aux.t.item() == 1.0
    _, half = moved([1.0] * 101, 100, end=0.5)
    assert half.t.item() == pytest.approx(0.5)


def test_t_never_falls_whatever_the_loss_does() -> None:
    objective, aux = TAID(), at(0.4)
    before = 0.0
    for step, loss in enumerate([1.0, 50.0, 0.0, 0.0, 3.0, 1e-30, 1e6]):
        objective.advance(aux, {}, {"taid": loss}, Progress(step, 1000))
        assert math.isfinite(aux.t.item())
        assert aux.t.item() >= before
        before = aux.t.item()


def test_a_loss_that_falls_faster_moves_t_faster() -> None:
    slow = moved([1.0, 0.99, 0.98], 10**9, momentum=0.5)[1]
    fast = moved([1.0, 0.5, 0.25], 10**9, momentum=0.5)[1]
    assert fast.t > slow.t > 0.4


def test_saved_and_loaded_it_goes_on_with_the_same_bits() -> None:
    objective, aux = moved([2.0, 1.7, 1.9], 50)
    fresh = at(0.0)
    fresh.load_state_dict(load(save(aux.state_dict())), strict=True)
    for both in (aux, fresh):
        objective.advance(both, {}, {"taid": 1.234567}, Progress(3, 50))
    assert all(torch.equal(a, b) for a, b in zip(aux.buffers(), fresh.buffers(), strict=True))
    assert list(aux.parameters()) == []


def test_in_the_loop_t_moves_once_a_step_by_its_own_loss() -> None:
    whole = training(KD() + TAID(rate=0.5) + TAID(start=0.1, rate=0.5))
    losses = list(run(whole))
    _, first, second = whole.trainees[0].member.aux
    for aux, name, start in ((first, "taid", 0.4), (second, "taid#2", 0.1)):
        again = at(start)
        for step, loss in enumerate(losses):
            own = {"taid": loss.terms[name]}
            TAID(start=start, rate=0.5).advance(again, {}, own, Progress(step, losses[0].steps))
        torch.testing.assert_close(aux.t, again.t, rtol=0, atol=0)
        torch.testing.assert_close(aux.loss, again.loss, rtol=0, atol=0)


def test_a_top_k_and_a_missing_loss_are_refused_in_words() -> None:
    _, s = pair(1, 4)
    cut = TopK(torch.tensor([[0]]), torch.zeros(1, 1), torch.full((1,), -math.inf), 1.0, 4)
    with pytest.raises(NeedsError, match="probability of every class"):
        TAID().terms(Outputs(s), Signal(cut), Batch(s), at(0.4))
    with pytest.raises(NeedsError, match="without this step's loss"):
        TAID().advance(at(0.4), {}, {}, Progress(0, 1))


def test_slices_of_a_projection_are_the_whole() -> None:
    assert_slices_are_the_whole(TAID(temperature=2.0, over="teacher_written"), at(0.6))
