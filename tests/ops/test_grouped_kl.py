import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import Tensor

from preceptor.ops.divergences import forward_kl
from preceptor.ops.grouped_kl import group_log_probs, grouped_kl

INF = torch.inf


def _logits(*shape: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    t = scale * torch.randn(*shape, generator=draw, dtype=torch.float64)
    return t, scale * torch.randn(*shape, generator=draw, dtype=torch.float64)


def test_a_nan_in_the_teacher_is_not_hidden() -> None:
    t, s = torch.tensor([0.0, torch.nan, 1.0]), torch.zeros(3)
    parts = grouped_kl(teacher=t, student=s, groups=torch.tensor([0, 0, 1]), num_groups=2)
    assert (parts.between + (parts.mass * parts.within).sum()).isnan()


@pytest.mark.parametrize("groups", [[0, 1, 0, 2, 1, 0, 2], [0] * 7, list(range(7))])
def test_between_and_within_add_up_to_the_divergence(groups: list[int]) -> None:
    t, s = _logits(4, 3, 7)
    index = torch.tensor(groups)
    parts = grouped_kl(
        teacher=t, student=s, groups=index, num_groups=max(groups) + 1, temperature=2.0
    )
    whole = forward_kl(teacher=t, student=s, temperature=2.0)
    torch.testing.assert_close(parts.between + (parts.mass * parts.within).sum(-1), whole)
    torch.testing.assert_close(parts.mass.sum(-1), torch.ones_like(whole))


def test_the_parts_are_what_scipy_says() -> None:
    t, s = _logits(7)
    p, q = softmax(t.numpy()), softmax(s.numpy())
    members = [[0, 2, 5], [1, 4], [3, 6]]
    parts = grouped_kl(
        teacher=t, student=s, groups=torch.tensor([0, 1, 0, 2, 1, 0, 2]), num_groups=3
    )
    p_g, q_g = (np.array([x[m].sum() for m in members]) for x in (p, q))
    assert float(parts.between) == pytest.approx(rel_entr(p_g, q_g).sum())
    inside = [rel_entr(p[m] / p[m].sum(), q[m] / q[m].sum()).sum() for m in members]
    np.testing.assert_allclose(parts.within.numpy(), inside)
    np.testing.assert_allclose(parts.mass.numpy(), p_g)


def test_groups_may_differ_by_position() -> None:
    t, s = _logits(3, 5)
    index = torch.tensor([[0, 1, 1, 1, 1], [1, 0, 1, 1, 1], [0, 0, 1, 0, 1]])
    whole = grouped_kl(teacher=t, student=s, groups=index, num_groups=2)
    for row in range(3):
        one = grouped_kl(teacher=t[row], student=s[row], groups=index[row], num_groups=2)
        torch.testing.assert_close(whole.within[row], one.within)
        torch.testing.assert_close(whole.between[row], one.between)


def test_the_other_classes_survive_where_a_sum_of_probabilities_would_not() -> None:
    # log(sum of softmax) over the others is log(0) here; -1000 on the label would not reach it.
    t = torch.tensor([1e4, 1.0, 0.0], dtype=torch.float64)
    s = torch.tensor([1e4, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    parts = grouped_kl(teacher=t, student=s, groups=torch.tensor([0, 1, 1]), num_groups=2)
    alone = forward_kl(teacher=t[1:], student=s.detach()[1:])
    torch.testing.assert_close(parts.within[1], alone)
    (grad,) = torch.autograd.grad(parts.within[1], s)
    assert grad.isfinite().all()
    assert grad[1:].abs().max() > 0.1


def test_a_group_that_the_teacher_rules_out_adds_nothing() -> None:
    t = torch.tensor([0.0, 1.0, -INF, -INF])
    s = torch.tensor([0.5, 0.0, 2.0, 1.0], requires_grad=True)
    parts = grouped_kl(teacher=t, student=s, groups=torch.tensor([0, 0, 1, 1]), num_groups=3)
    assert parts.within[1] == 0
    assert parts.within[2] == 0
    assert parts.mass[1] == 0
    (grad,) = torch.autograd.grad(parts.between + parts.within.sum(), s)
    assert grad.isfinite().all()


def test_a_group_that_the_student_rules_out_keeps_gradients_finite_elsewhere() -> None:
    s = torch.tensor([0.5, 0.0, -INF], requires_grad=True)
    logs = group_log_probs(torch.log_softmax(s, -1), torch.tensor([0, 1, 2]), 3)
    assert logs[2] == -INF
    (grad,) = torch.autograd.grad(logs[0], s)
    assert grad.isfinite().all()
