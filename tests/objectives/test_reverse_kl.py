import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from preceptor.distributions import Sampled
from preceptor.errors import NeedsError
from preceptor.objectives.gkd import GKD
from preceptor.objectives.kd import KD
from preceptor.objectives.reverse_kl import ReverseKL
from preceptor.types import Needs
from tests.objectives.by_slices import assert_slices_are_the_whole
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_it_is_scipys_relative_entropy_of_the_student_from_the_teacher(temperature: float) -> None:
    t, s = pair(6, 7)
    p, q = softmax(t.numpy() / temperature, axis=-1), softmax(s.numpy() / temperature, axis=-1)
    found = terms_of(ReverseKL(temperature=temperature), t, s)["reverse_kl"].values
    torch.testing.assert_close(found, torch.from_numpy(np.sum(rel_entr(q, p), axis=-1)))


def test_its_gradient_is_the_expectation_of_the_log_ratio_times_the_score() -> None:
    # MiniLLM's single step: grad KL(q || p) = sum_y q(y) (log q(y) - log p(y)) grad log q(y).
    t, s = pair(1, 7)
    s.requires_grad_()
    log_q, log_p = torch.log_softmax(s, -1), torch.log_softmax(t, -1)
    estimate = (log_q.detach().exp() * (log_q - log_p).detach() * log_q).sum()
    ours = gradient(loss_on(ReverseKL(), student_logits=s, teacher_logits=t), s)
    torch.testing.assert_close(ours, gradient(estimate, s))


def test_it_is_gkd_at_one_and_kd_with_the_sides_exchanged() -> None:
    t, s = pair(6, 7)
    ours = terms_of(ReverseKL(), t, s)["reverse_kl"].values
    torch.testing.assert_close(ours, terms_of(GKD(beta=1.0), t, s)["gkd"].values)
    torch.testing.assert_close(ours, terms_of(KD(temperature=1.0), s, t)["kd"].values)


def test_raising_the_temperature_has_no_factor() -> None:
    t, s = pair(6, 7)
    hot = terms_of(ReverseKL(temperature=4.0), t, s)["reverse_kl"].values
    torch.testing.assert_close(hot, terms_of(ReverseKL(), t / 4, s / 4)["reverse_kl"].values)


def test_draws_are_refused_by_name_before_and_while_training() -> None:
    (sentence,) = ReverseKL().needs().unmet_by(Needs(kinds=frozenset({"draws"})))
    assert "not linear in the teacher, so draws would bias it" in sentence
    ids = torch.zeros(2, 1, dtype=torch.int64)
    drawn = Sampled(ids, torch.ones_like(ids), torch.zeros(2), 1.0, 7)
    with pytest.raises(NeedsError, match="linear in the teacher"):
        terms_of(ReverseKL(), drawn, pair(2, 7)[1])


@pytest.mark.parametrize("over", ["all", "student_written"])
def test_slices_of_a_projection_are_the_whole(over: str) -> None:
    assert_slices_are_the_whole(ReverseKL(temperature=2.0, over=over))
