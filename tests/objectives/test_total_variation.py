import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from preceptor.objectives.kd import KD
from preceptor.objectives.total_variation import TotalVariation
from tests.objectives.by_slices import assert_slices_are_the_whole
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


def test_it_is_half_the_sum_of_differences() -> None:
    t, s = pair(6, 7)
    p, q = softmax(t.numpy(), axis=-1), softmax(s.numpy(), axis=-1)
    found = terms_of(TotalVariation(), t, s)["total_variation"].values
    torch.testing.assert_close(found, torch.from_numpy(np.abs(p - q).sum(-1) / 2))


def test_it_is_one_less_what_both_share() -> None:
    t, s = pair(6, 7)
    shared = torch.minimum(torch.softmax(t, -1), torch.softmax(s, -1)).sum(-1)
    found = terms_of(TotalVariation(), t, s)["total_variation"].values
    torch.testing.assert_close(found, 1 - shared)


def test_pinskers_inequality_bounds_it_by_kl() -> None:
    t, s = pair(300, 7)
    apart = terms_of(TotalVariation(), t, s)["total_variation"].values
    kl = terms_of(KD(temperature=1.0), t, s)["kd"].values
    assert (apart <= (kl / 2).sqrt() + 1e-12).all()


def test_a_student_that_is_sure_and_wrong_hardly_moves() -> None:
    t = torch.tensor([[20.0, 0.0, 0.0]], dtype=torch.float64)
    s = torch.tensor([[0.0, 20.0, 0.0]], dtype=torch.float64, requires_grad=True)
    ours = gradient(loss_on(TotalVariation(), student_logits=s, teacher_logits=t), s)
    assert ours.abs().max() < 1e-7
    kl = gradient(loss_on(KD(temperature=1.0), student_logits=s, teacher_logits=t), s)
    assert kl.abs().max() == pytest.approx(1.0, abs=1e-6)


def test_disjoint_sides_are_one_apart() -> None:
    t, s = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    assert loss_on(TotalVariation(), student_logits=s, teacher_logits=t).item() == 1


def test_slices_of_a_projection_are_the_whole() -> None:
    assert_slices_are_the_whole(TotalVariation(over="student_written"))
