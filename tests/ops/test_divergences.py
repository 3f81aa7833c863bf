import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from torch import Tensor

from preceptor.ops.divergences import (
    forward_kl,
    jensen_shannon,
    kl_between_logs,
    kl_from_logs,
    reverse_kl,
    total_variation,
)

ALL = (forward_kl, reverse_kl, jensen_shannon, total_variation)
INF = torch.inf


def _logits(*shape: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    t = scale * torch.randn(*shape, generator=draw, dtype=torch.float64)
    return t, scale * torch.randn(*shape, generator=draw, dtype=torch.float64)


def _reference(name: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return {
        "forward_kl": rel_entr(p, q).sum(-1),
        "reverse_kl": rel_entr(q, p).sum(-1),
        "jensen_shannon": np.array([jensenshannon(*row) ** 2 for row in zip(p, q, strict=True)]),
        "total_variation": np.abs(p - q).sum(-1) / 2,
    }[name]


@pytest.mark.parametrize("divergence", ALL)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_divergence_is_what_scipy_says(divergence, temperature) -> None:
    t, s = _logits(6, 7)
    p, q = softmax(t.numpy() / temperature, axis=-1), softmax(s.numpy() / temperature, axis=-1)
    ours = divergence(teacher=t, student=s, temperature=temperature)
    expected = torch.from_numpy(_reference(divergence.__name__, p, q))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_an_uneven_jensen_shannon_is_its_definition() -> None:
    t, s = _logits(6, 7)
    p, q = softmax(t.numpy(), axis=-1), softmax(s.numpy(), axis=-1)
    m = 0.9 * p + 0.1 * q
    expected = 0.9 * rel_entr(p, m).sum(-1) + 0.1 * rel_entr(q, m).sum(-1)
    ours = jensen_shannon(teacher=t, student=s, beta=0.9)
    torch.testing.assert_close(ours, torch.from_numpy(expected))


@pytest.mark.parametrize("divergence", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32(divergence, dtype) -> None:
    t, s = (x.to(dtype) for x in _logits(6, 7))
    low = divergence(teacher=t, student=s)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, divergence(teacher=t.float(), student=s.float()))


@pytest.mark.parametrize("divergence", ALL)
def test_confident_and_disjoint_logits_give_numbers_and_gradients(divergence) -> None:
    t = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, -1e4]])
    s = torch.tensor([[-1e4, 1e4, 0.0], [0.0, 1e4, -1e4]], requires_grad=True)
    values = divergence(teacher=t, student=s)
    assert values.isfinite().all()
    assert values[1] == 0
    (grad,) = torch.autograd.grad(values.sum(), s)
    assert grad.isfinite().all()


def test_jensen_shannon_is_at_most_log_2() -> None:
    far = torch.tensor([[1e4, -1e4]])
    value = jensen_shannon(teacher=far, student=-far)
    torch.testing.assert_close(value, torch.tensor([math.log(2)]))


@pytest.mark.parametrize("divergence", ALL)
def test_a_class_that_both_rule_out_is_as_if_it_were_not_there(divergence) -> None:
    t, s = (x.float() for x in _logits(5, 4))
    out = torch.full((5, 2), -INF)
    wide = torch.cat([s, out], dim=-1).requires_grad_()
    padded = divergence(teacher=torch.cat([t, out], dim=-1), student=wide)
    torch.testing.assert_close(padded, divergence(teacher=t, student=s))
    (grad,) = torch.autograd.grad(padded.sum(), wide)
    assert grad.isfinite().all()


def test_a_class_that_the_teacher_rules_out_adds_nothing_forward_and_is_infinite_backward() -> None:
    t, s = torch.tensor([0.0, 0.0, -INF]), torch.tensor([0.0, 0.0, 0.0])
    assert float(forward_kl(teacher=t, student=s)) == pytest.approx(math.log(3 / 2))
    assert float(reverse_kl(teacher=t, student=s)) == INF
    assert float(total_variation(teacher=t, student=s)) == pytest.approx(1 / 3)


def test_a_nan_in_the_teacher_is_not_hidden() -> None:
    t, s = torch.tensor([0.0, torch.nan, 1.0]), torch.zeros(3)
    assert forward_kl(teacher=t, student=s).isnan()


@pytest.mark.parametrize("divergence", ALL)
def test_a_constant_added_to_a_row_changes_nothing(divergence) -> None:
    t, s = _logits(6, 7)
    shift = torch.linspace(-50, 50, 6, dtype=torch.float64).unsqueeze(-1)
    before = divergence(teacher=t, student=s)
    torch.testing.assert_close(divergence(teacher=t + shift, student=s - 2 * shift), before)


@pytest.mark.parametrize("divergence", ALL)
def test_a_gradient_is_what_differences_say(divergence) -> None:
    t, s = _logits(3, 4, scale=1.0)
    assert torch.autograd.gradcheck(
        lambda x: divergence(teacher=t, student=x, temperature=2.0), s.requires_grad_()
    )


def test_logits_and_logarithms_answer_alike() -> None:
    t, s = _logits(4, 5)
    p, q = torch.log_softmax(t / 3, -1), torch.log_softmax(s / 3, -1)
    whole = forward_kl(teacher=t, student=s, temperature=3.0)
    torch.testing.assert_close(kl_from_logs(p=p, student=s, temperature=3.0), whole)
    torch.testing.assert_close(kl_between_logs(p, q), whole)


# Defects of other libraries, with the figures that our own do not give.


def test_negative_logits_and_equal_sides_are_not_clipped_as_raw_numbers() -> None:
    # Keras 3.15.1's default takes KL of raw logits clipped to [1e-7, 1]: identical sides give
    # something else than zero, all-negative logits give zero.
    t, s = _logits(6, 7)
    torch.testing.assert_close(
        forward_kl(teacher=t, student=t), torch.zeros(6, dtype=torch.float64)
    )
    below_t, below_s = t - t.amax() - 1, s - s.amax() - 1
    clipped = np.clip(below_t.numpy(), 1e-7, 1)
    assert rel_entr(clipped, np.clip(below_s.numpy(), 1e-7, 1)).sum() == 0
    values = forward_kl(teacher=below_t, student=below_s)
    torch.testing.assert_close(values, forward_kl(teacher=t, student=s))
    assert (values > 0.1).all()


def test_classes_are_summed_over_and_not_averaged() -> None:
    # NVIDIA modelopt's and KD_Lib's "mean" divides by the number of classes too.
    t, s = _logits(6, 10)
    ours = forward_kl(teacher=t, student=s).mean()
    p, q = torch.log_softmax(t, -1), torch.log_softmax(s, -1)
    theirs = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").mean()
    torch.testing.assert_close(ours, 10 * theirs)
