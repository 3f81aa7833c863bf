import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import wasserstein_distance
from torch import nn

from preceptor.errors import ModelError
from preceptor.objectives.kd import KD
from preceptor.objectives.uld import ULD
from preceptor.train.scoring import Share, Worth
from preceptor.types import Batch, Dense, Head, Outputs, Projected, Signal
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_uld_is_the_distance_of_sorted_probabilities_by_numpy(temperature: float) -> None:
    t, s = pair(6, 7)
    p, q = (np.sort(softmax(x.numpy() / temperature, axis=-1)) for x in (t, s))
    expected = np.abs(p - q).sum(axis=-1)
    ours = terms_of(ULD(temperature=temperature), t, s)["uld"].values
    torch.testing.assert_close(ours, torch.from_numpy(expected))
    # On the line, the Wasserstein distance of the sets of probabilities is the mean of the gaps.
    line = [wasserstein_distance(a, b) for a, b in zip(p, q, strict=True)]
    torch.testing.assert_close(ours / 7, torch.tensor(line))


@pytest.mark.parametrize(("teacher", "student"), [(5, 9), (9, 5)])
def test_the_shorter_vocabulary_is_filled_up_with_zeros(teacher: int, student: int) -> None:
    t, s = pair(4, 9)
    t, s = t[:, :teacher], s[:, :student]
    p, q = (np.sort(softmax(x.numpy(), axis=-1))[:, ::-1] for x in (t, s))
    filled = [np.pad(x, ((0, 0), (0, 9 - x.shape[1]))) for x in (p, q)]
    expected = np.abs(filled[0] - filled[1]).sum(axis=-1)
    values = terms_of(ULD(), t, s)["uld"].values
    torch.testing.assert_close(values, torch.from_numpy(expected))
    assert torch.isfinite(loss_on(ULD(), student_logits=s, teacher_logits=t))


def test_which_class_is_likely_is_never_compared() -> None:
    t, _ = pair(6, 7)
    shuffled = t[:, torch.tensor([3, 1, 0, 6, 2, 5, 4])].requires_grad_()
    loss = loss_on(ULD(), student_logits=shuffled, teacher_logits=t)
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_it_lies_between_nothing_and_two() -> None:
    sure, nobody = torch.tensor([[80.0, 0.0, 0.0]]), torch.zeros(1, 3000)
    value = terms_of(ULD(), sure, nobody)["uld"].values.item()
    assert 1.99 < value <= 2.0


def test_the_gradient_is_that_of_differences() -> None:
    t, s = pair(3, 5)
    s.requires_grad_()
    loss = loss_on(ULD(), student_logits=s, teacher_logits=t)
    grad = gradient(loss, s)
    step = 1e-6
    for row, column in ((0, 0), (1, 3), (2, 4)):
        moved = s.detach().clone()
        moved[row, column] += step
        after = loss_on(ULD(), student_logits=moved, teacher_logits=t)
        assert grad[row, column].item() == pytest.approx((after - loss).item() / step, rel=1e-3)


def test_slices_of_a_projection_take_a_teacher_of_another_vocabulary() -> None:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 6, 4, generator=draw, dtype=torch.float64).requires_grad_()
    head = Head(torch.randn(11, 4, generator=draw, dtype=torch.float64).requires_grad_())
    teacher = Projected(
        torch.randn(2, 6, 3, generator=draw, dtype=torch.float64),
        Head(torch.randn(17, 3, generator=draw, dtype=torch.float64)),
    )
    aligned = torch.rand(2, 6, generator=draw) > 0.4
    batch = Batch(hidden.detach(), mask=torch.ones(2, 6).bool(), masks={"aligned": aligned})
    objective = ULD() + ULD(temperature=2.0)
    aux = nn.ModuleList([nn.Module(), nn.Module()])
    share = Share(
        objective, objective.labels(), Signal(teacher), batch, aux, lambda _n, _t: Worth(1.0, 0.5)
    )
    loss = torch.stack(list(share.scored(Outputs(Projected(hidden, head))).losses.values())).sum()
    dense = objective.terms(
        Outputs(head.logits(hidden)), Signal(Dense(teacher.head.logits(teacher.hidden))), batch, aux
    )
    expected = torch.stack([t.values[aligned].sum() for t in dense.values()]).sum() / 2
    torch.testing.assert_close(loss, expected)
    grads = torch.autograd.grad(loss, [hidden, head.weight])
    others = torch.autograd.grad(expected, [hidden, head.weight])
    for own, other in zip(grads, others, strict=True):
        torch.testing.assert_close(own, other)


def test_kd_still_refuses_two_vocabularies() -> None:
    t, s = pair(4, 9)
    with pytest.raises(ModelError, match=r"9 classes, the teacher.s for 5"):
        loss_on(KD(), student_logits=s, teacher_logits=t[:, :5])
