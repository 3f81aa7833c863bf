import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from torch import Tensor

from preceptor.ops.divergences import (
    adaptive_kl,
    adaptive_kl_between_logs,
    forward_kl,
    jensen_shannon,
    kl_between_logs,
    kl_from_logs,
    mixture_of_logs,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    total_variation,
)

ALL = (
    forward_kl,
    reverse_kl,
    jensen_shannon,
    skew_kl,
    skew_reverse_kl,
    total_variation,
    adaptive_kl,
)
BOUNDED = (jensen_shannon, skew_kl, skew_reverse_kl, total_variation)
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
        "skew_kl": rel_entr(p, 0.1 * p + 0.9 * q).sum(-1),
        "skew_reverse_kl": rel_entr(q, 0.9 * p + 0.1 * q).sum(-1),
        "total_variation": np.abs(p - q).sum(-1) / 2,
        "adaptive_kl": np.array([_adaptive(*row) for row in zip(p, q, strict=True)]),
    }[name]


def _adaptive(p: np.ndarray, q: np.ndarray) -> float:
    """The paper's words, one class after another."""
    head, mass = [], 0.0
    for place in np.argsort(-p):
        if mass < 0.5:
            head.append(place)
        mass += p[place]
    gap = np.abs(p - q)
    share = gap[head].sum() / gap.sum()
    return share * rel_entr(p, q).sum() + (1 - share) * rel_entr(q, p).sum()


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


@pytest.mark.parametrize(("beta", "end"), [(0.0, forward_kl), (1.0, reverse_kl)])
def test_the_ends_of_jensen_shannon_are_the_two_kls(beta: float, end) -> None:
    t, s = _logits(6, 7)
    plain = end(teacher=t, student=s)
    for normalised in (False, True):
        found = jensen_shannon(teacher=t, student=s, beta=beta, normalised=normalised)
        assert torch.equal(found, plain)
    near = abs(beta - 1e-9)
    limit = jensen_shannon(teacher=t, student=s, beta=near, normalised=True)
    torch.testing.assert_close(limit, plain, rtol=1e-4, atol=1e-6)


def test_jensen_shannon_fades_towards_its_ends_and_normalised_does_not() -> None:
    # Near the optimum it is beta (1 - beta) KL: peers' beta = 0.01 trains 100 times more slowly
    # than their beta = 0, which is KL itself.
    t, s = _logits(6, 7)
    s = t + 1e-3 * s
    plain = forward_kl(teacher=t, student=s)
    for beta in (0.01, 0.5, 0.9):
        raw = jensen_shannon(teacher=t, student=s, beta=beta)
        fading = beta * (1 - beta) * torch.ones_like(raw)
        torch.testing.assert_close(raw / plain, fading, rtol=1e-2, atol=0)
        whole = jensen_shannon(teacher=t, student=s, beta=beta, normalised=True)
        torch.testing.assert_close(whole / plain, torch.ones_like(raw), rtol=1e-2, atol=0)


@pytest.mark.parametrize("divergence", [skew_kl, skew_reverse_kl])
def test_a_skewed_kl_near_its_end_is_smaller_by_the_square_of_what_is_left(divergence) -> None:
    t, s = _logits(6, 7)
    s = t + 1e-3 * s
    ratio = divergence(teacher=t, student=s, skew=0.1) / forward_kl(teacher=t, student=s)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.81), rtol=1e-2, atol=0)


@pytest.mark.parametrize("divergence", [skew_kl, skew_reverse_kl])
def test_a_skewed_kl_is_at_most_minus_log_of_the_skew(divergence) -> None:
    far = torch.tensor([[1e4, -1e4]])
    value = divergence(teacher=far, student=-far, skew=0.1)
    torch.testing.assert_close(value, torch.tensor([math.log(10)]))


def test_the_sides_of_the_skewed_kls_are_exchanged() -> None:
    t, s = _logits(6, 7)
    forward = skew_kl(teacher=t, student=s, skew=0.3)
    torch.testing.assert_close(forward, skew_reverse_kl(teacher=s, student=t, skew=0.3))


def test_adaptive_kl_by_hand() -> None:
    # Head: 0.4 and 0.3 (0.4 alone is less than half). Gaps: 0.3 + 0.1 there, 0.2 + 0.2 in the tail.
    p, q = torch.tensor([0.4, 0.3, 0.2, 0.1]).double(), torch.tensor([0.1, 0.2, 0.4, 0.3]).double()
    forward, reverse = rel_entr(p.numpy(), q.numpy()).sum(), rel_entr(q.numpy(), p.numpy()).sum()
    found = adaptive_kl(teacher=p.log(), student=q.log())
    assert float(found) == pytest.approx(0.5 * forward + 0.5 * reverse)
    at_30 = float(adaptive_kl(teacher=p.log(), student=q.log(), head=0.3))  # 0.4 alone
    assert at_30 == pytest.approx(0.375 * forward + 0.625 * reverse)


def test_the_weights_of_adaptive_kl_have_no_gradient() -> None:
    t, s = _logits(4, 7)
    s.requires_grad_()
    (grad,) = torch.autograd.grad(adaptive_kl(teacher=t, student=s).sum(), s)
    p, q = torch.softmax(t, -1), torch.softmax(s.detach(), -1)
    kl, back = forward_kl(teacher=t, student=s), reverse_kl(teacher=t, student=s)
    ours = adaptive_kl(teacher=t, student=s)
    share = ((ours - back) / (kl - back)).detach().unsqueeze(-1)
    apart = (q.log() - p.log()) - back.detach().unsqueeze(-1)
    torch.testing.assert_close(grad, share * (q - p) + (1 - share) * q * apart)


def test_many_classes_taken_together_lie_in_the_tail() -> None:
    p, q = torch.tensor([0.2, 0.1, 0.7]).log(), torch.tensor([0.3, 0.3, 0.4]).log()
    found = adaptive_kl_between_logs(teacher=p, student=q, rest=True)
    # Head 0.2 and 0.1 though the rest is heavier: gaps 0.3 of 0.6.
    expected = 0.5 * kl_between_logs(p, q) + 0.5 * kl_between_logs(q, p)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("divergence", BOUNDED)
@pytest.mark.parametrize("ruled_out", ["teacher", "student"])
def test_a_class_that_one_side_rules_out_leaves_a_bounded_divergence_its_gradient(
    divergence, ruled_out: str
) -> None:
    t, s = (x.float() for x in _logits(5, 4))
    (t if ruled_out == "teacher" else s)[:, 1] = -INF
    s.requires_grad_()
    values = divergence(teacher=t, student=s)
    assert values.isfinite().all()
    (grad,) = torch.autograd.grad(values.sum(), s)
    assert grad.isfinite().all()
    assert grad.abs().max() > 1e-3
    almost = {"teacher": t, "student": s.detach()}
    almost[ruled_out] = almost[ruled_out].masked_fill(almost[ruled_out] == -INF, -80.0)
    torch.testing.assert_close(values, divergence(**almost))


def test_what_the_student_rules_out_adds_nothing_to_reverse_kl() -> None:
    t, s = torch.zeros(3), torch.tensor([0.0, 0.0, -INF], requires_grad=True)
    value = reverse_kl(teacher=t, student=s)
    assert value.item() == pytest.approx(math.log(3 / 2))
    (grad,) = torch.autograd.grad(value, s)
    torch.testing.assert_close(grad, torch.zeros(3))


@pytest.mark.parametrize("divergence", ALL)
def test_half_precision_logits_near_the_teacher_never_give_a_negative_divergence(
    divergence,
) -> None:
    # In bfloat16's own softmax a JSD of +0.0013 was -0.0048 in three trainers.
    draw = torch.Generator().manual_seed(0)
    t = 3 * torch.randn(64, 4096, generator=draw)
    s = t + 0.1 * torch.randn(64, 4096, generator=draw)
    t, s = t.bfloat16(), s.bfloat16()
    values = divergence(teacher=t, student=s)
    assert values.dtype == torch.float32
    assert values.min() > -1e-6
    exact = divergence(teacher=t.double(), student=s.double())
    torch.testing.assert_close(values.double(), exact, rtol=1e-3, atol=1e-6)


def test_a_mixture_of_logs_is_the_log_of_the_mixture() -> None:
    p, q = torch.tensor([0.25, 0.75, 0.0, 0.0]).log(), torch.tensor([0.5, 0.0, 0.5, 0.0]).log()
    found = mixture_of_logs(p, q, 0.2)
    expected = torch.tensor([0.2 * 0.25 + 0.8 * 0.5, 0.2 * 0.75, 0.8 * 0.5, 1.0]).log()
    torch.testing.assert_close(found, expected)  # 0 where both rule out, which adds nothing


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
    assert values[1].abs() < 1e-7
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


@pytest.mark.parametrize("divergence", [d for d in ALL if d is not adaptive_kl])
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
