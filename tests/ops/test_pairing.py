import math
from functools import partial

import pytest
import torch
from torch import Tensor

from preceptor.distributions import Dense, Distribution, Mixture, Sampled, TopK
from preceptor.errors import ModelError, NeedsError
from preceptor.ops.divergences import (
    adaptive_kl_between_logs,
    jensen_shannon_between_logs,
    kl_between_logs,
    skew_kl_between_logs,
    skew_reverse_kl_between_logs,
    total_variation_between_logs,
)
from preceptor.ops.pairing import forward_kl_to, log_probs_at, paired
from tests.objectives.random_logits import pair

INF = torch.inf
BETWEEN = {
    "forward_kl": lambda teacher, student: kl_between_logs(teacher, student),
    "reverse_kl": lambda teacher, student: kl_between_logs(student, teacher),
    "jensen_shannon": partial(jensen_shannon_between_logs, beta=0.3),
    "normalised": partial(jensen_shannon_between_logs, beta=0.3, normalised=True),
    "skew_kl": partial(skew_kl_between_logs, skew=0.1),
    "skew_reverse_kl": partial(skew_reverse_kl_between_logs, skew=0.1),
    "total_variation": total_variation_between_logs,
    "adaptive_kl": adaptive_kl_between_logs,
}


def top_k(teacher: Tensor, k: int, temperature: float = 1.0) -> TopK:
    log_p = torch.log_softmax(teacher / temperature, dim=-1)
    kept, ids = log_p.topk(k, dim=-1)
    rest = log_p.scatter(-1, ids, -INF)
    return TopK(ids, kept, rest.logsumexp(-1), temperature, teacher.shape[-1])


def found(name: str, teacher: Distribution, student: Tensor, temperature: float) -> list[Tensor]:
    leaf = student.detach().clone().requires_grad_()
    both = paired(teacher, leaf, temperature)
    values = BETWEEN[name](teacher=both.teacher, student=both.student)
    (grad,) = torch.autograd.grad((values * torch.arange(1, len(values) + 1)).sum(), leaf)
    return [values.detach(), grad]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", BETWEEN)
def test_a_top_k_of_all_classes_is_the_whole(name: str, temperature: float) -> None:
    t, s = pair(5, 7)
    whole = found(name, Dense(t), s, temperature)
    covered = top_k(t, 7, temperature)
    assert (covered.log_tail == -INF).all()
    torch.testing.assert_close(found(name, covered, s, temperature), whole)


@pytest.mark.parametrize("name", BETWEEN)
def test_bins_are_what_sums_of_probabilities_give(name: str) -> None:
    t, s = pair(5, 9)
    cut = top_k(t, 3)
    leaf = s.clone().requires_grad_()
    q = torch.softmax(leaf, -1)
    kept = q.gather(-1, cut.ids)
    bins = torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], dim=-1).log()
    p = torch.cat([cut.log_p, cut.log_tail.unsqueeze(-1)], dim=-1)
    values = BETWEEN[name](teacher=p, student=bins)
    (grad,) = torch.autograd.grad((values * torch.arange(1, 6)).sum(), leaf)
    torch.testing.assert_close(found(name, cut, s, 1.0), [values.detach(), grad])


@pytest.mark.parametrize("name", [n for n in BETWEEN if n not in ("adaptive_kl", "normalised")])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_fewer_bins_never_see_more(name: str, k: int) -> None:
    t, s = pair(200, 9)
    whole, cut = found(name, Dense(t), s, 1.0)[0], found(name, top_k(t, k), s, 1.0)[0]
    assert (cut <= whole + 1e-12).all()
    assert (cut < whole - 1e-6).any()


@pytest.mark.parametrize("name", BETWEEN)
def test_an_equal_student_has_no_loss_and_no_gradient(name: str) -> None:
    # Renormalising the teacher's k leaves log(1 / mass) of loss and teaches overconfidence.
    t, _ = pair(5, 9)
    values, grad = found(name, top_k(t, 3), t, 1.0)
    torch.testing.assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-12)
    if name != "total_variation":  # whose gradient jumps there
        torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-12)


def test_the_gradient_of_bins_is_what_differences_say() -> None:
    t, s = pair(3, 6, scale=1.0)
    cut = top_k(t, 2, 2.0)
    assert torch.autograd.gradcheck(
        lambda x: paired(cut, x, 2.0).student, s.requires_grad_(), check_undefined_grad=False
    )


def test_a_tiny_tail_keeps_its_digits() -> None:
    # In float32 1 - sum is 0 here, and exp(-100) taken from the largest class underflows.
    s = torch.tensor([[0.0, -1.0, -100.0, -101.0, -130.0]], requires_grad=True)
    cut = top_k(torch.zeros(1, 5), 2)
    both = paired(TopK(torch.tensor([[0, 1]]), cut.log_p, cut.log_tail, 1.0, 5), s, 1.0)
    kept, tail = math.log(1 + math.exp(-1)), -100 + math.log(1 + math.exp(-1) + math.exp(-30))
    assert both.student[0, 2].item() == pytest.approx(tail - kept, rel=1e-6)
    (grad,) = torch.autograd.grad(both.student[0, 2], s)
    share = torch.softmax(s.detach()[0, 2:], -1)
    torch.testing.assert_close(grad[0, 2:], share)


def test_nothing_left_is_minus_infinity_with_a_gradient_of_zero() -> None:
    _, s = pair(2, 4)
    s.requires_grad_()
    ids = torch.tensor([[3, 1, 0, 2], [0, 1, 2, 3]])
    log_p = torch.full((2, 4), math.log(1 / 4), dtype=torch.float64)
    student = paired(TopK(ids, log_p, torch.full((2,), -INF), 1.0, 4), s, 1.0).student
    assert (student[:, -1] == -INF).all()
    torch.testing.assert_close(student[:, :-1], torch.log_softmax(s, -1).gather(-1, ids))
    (grad,) = torch.autograd.grad(student[:, -1].sum(), s)
    assert torch.equal(grad, torch.zeros_like(grad))


def test_a_student_may_rule_out_all_of_the_rest() -> None:
    s = torch.tensor([[0.5, 0.0, -INF, -INF]], requires_grad=True)
    log_p = torch.tensor([[0.6, 0.4]]).log()
    cut = TopK(torch.tensor([[0, 1]]), log_p, torch.full((1,), -INF), 1.0, 4)
    for name, divergence in BETWEEN.items():
        both = paired(cut, s, 1.0)
        value = divergence(teacher=both.teacher, student=both.student).sum()
        (grad,) = torch.autograd.grad(value, s)
        assert value.isfinite(), name
        assert grad.isfinite().all(), name


def test_a_position_with_fewer_entries_has_fewer_bins() -> None:
    t, s = pair(2, 6)
    three, two = top_k(t, 3), top_k(t[:1], 2)
    ids, log_p = three.ids.clone(), three.log_p.clone()
    ids[0, 2], log_p[0, 2] = -1, -INF
    tails = torch.stack([two.log_tail[0], three.log_tail[1]])
    mixed = TopK(ids.int(), log_p, tails, 1.0, 6)
    for name in BETWEEN:
        values, grad = found(name, mixed, s, 1.0)
        short, of_short = found(name, two, s[:1], 1.0)
        assert values[0].item() == pytest.approx(short.item())
        torch.testing.assert_close(grad[0], of_short[0])


def test_a_nan_in_the_student_is_not_hidden() -> None:
    t, s = pair(2, 6)
    s[0, 4] = torch.nan
    assert paired(top_k(t, 2), s, 1.0).student[0].isnan().all()
    assert paired(top_k(t, 2), s, 1.0).student[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bins_of_half_precision_logits_are_float32_and_the_gradient_is_theirs(dtype) -> None:
    t, s = pair(5, 9)
    low = s.to(dtype).requires_grad_()
    both = paired(top_k(t.float(), 3), low, 1.0)
    assert both.student.dtype == torch.float32
    torch.testing.assert_close(
        both.student, paired(top_k(t.float(), 3), low.detach().float(), 1.0).student
    )
    (grad,) = torch.autograd.grad(kl_between_logs(both.teacher, both.student).sum(), low)
    assert grad.dtype == dtype


def test_a_mixture_is_whole() -> None:
    t, s = pair(5, 7)
    both = paired(Mixture((Dense(t), Dense(s)), torch.full((2, 5), 0.5)), s, 2.0)
    p = (torch.softmax(t / 2, -1) + torch.softmax(s / 2, -1)) / 2
    torch.testing.assert_close(both.teacher.exp(), p)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_draw_is_unbiased_for_forward_kl_in_value_and_gradient(temperature: float) -> None:
    t, s = pair(3, 5)
    s.requires_grad_()
    log_p = torch.log_softmax(t / temperature, -1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    # Two draws of five classes: every pair, weighted by its probability.
    mean = torch.zeros(3, dtype=torch.float64)
    for first in range(5):
        for second in range(5):
            ids = torch.tensor([[first, second]] * 3)
            counts = torch.ones_like(ids)
            if first == second:
                ids[:, 1], counts[:, 0], counts[:, 1] = -1, 2, 0
            drawn = Sampled(ids, counts, entropy, temperature, 5)
            share = (log_p[:, first] + log_p[:, second]).exp()
            mean = mean + share * forward_kl_to(drawn, s, temperature)
    whole = forward_kl_to(Dense(t), s, temperature)
    torch.testing.assert_close(mean, whole)
    ours, expected = (torch.autograd.grad(x.sum(), s)[0] for x in (mean, whole))
    torch.testing.assert_close(ours, expected)


def test_what_was_never_drawn_is_never_read() -> None:
    s = torch.tensor([[-INF, 0.0, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
    drawn = Sampled(
        torch.tensor([[1, -1], [-1, -1]]), torch.tensor([[4, 0], [0, 0]]), torch.zeros(2), 1.0, 3
    )
    values = forward_kl_to(drawn, s, 1.0)
    torch.testing.assert_close(values, torch.tensor([math.log(2), 0.0]))
    (grad,) = torch.autograd.grad(values.sum(), s)
    assert grad.isfinite().all()


def test_log_probs_of_some_classes_are_those_of_all() -> None:
    _, s = pair(4, 7)
    ids = torch.tensor([[0, 6], [1, 0], [5, 2], [3, 4]])
    for temperature in (1.0, 0.7):
        whole = torch.log_softmax(s / temperature, -1).gather(-1, ids)
        torch.testing.assert_close(log_probs_at(s, ids, temperature), whole)
    assert (log_probs_at(s, torch.full((4, 1), -1), 1.0) == -INF).all()


def test_a_biased_use_of_draws_is_refused() -> None:
    _, s = pair(2, 5)
    ids = torch.zeros(2, 1, dtype=torch.int64)
    drawn = Sampled(ids, torch.ones_like(ids), torch.zeros(2), 1.0, 5)
    with pytest.raises(NeedsError, match="linear in the teacher"):
        paired(drawn, s, 1.0)


def test_another_temperature_and_other_classes_are_refused() -> None:
    t, s = pair(2, 5)
    with pytest.raises(NeedsError, match="exist at 1 alone"):
        paired(top_k(t, 2), s, 2.0)
    with pytest.raises(ModelError, match="over 5 classes, the student's over 4"):
        paired(top_k(t, 2), s[:, :4], 1.0)
    with pytest.raises(ModelError, match="over 5 classes, the student's over 4"):
        paired(Dense(t), s[:, :4], 1.0)


def test_one_tensor_of_the_vocabulary_is_kept_for_the_backward_pass() -> None:
    t, s = pair(4, 4096)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    s.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        paired(top_k(t, 8), s, 1.0)
    assert sorted(kept)[-1] == s.numel()  # the logits themselves
    assert sum(kept) < 1.1 * s.numel()
