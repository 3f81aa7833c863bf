"""Log-probabilities of given tokens, through a projection."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from preceptor.ops import projection
from preceptor.ops.chosen import chosen_log_probs
from preceptor.types import Head, Projected

HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "scaled and capped": {"bias": True, "scale": 0.3, "cap": 4.0},
}


def shown(*, bias: bool = False, scale: float = 1.0, cap: float = 0.0) -> Projected:
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_()

    hidden = random(3, 7, 5)
    return Projected(hidden, Head(random(11, 5), random(11) if bias else None, scale, cap))


def leaves(held: Projected) -> list[Tensor]:
    bias = held.head.bias
    return [held.hidden, held.head.weight, *([] if bias is None else [bias])]


def dense(held: Projected, labels: Tensor, read: Tensor) -> Tensor:
    logs = torch.log_softmax(held.head.logits(held.hidden), dim=-1)
    found = logs.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return torch.where(read, found, 0.0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("length", [0, 4])
def test_projected_equals_dense_autograd_in_value_and_gradient(
    head: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if length:  # several slices
        monkeypatch.setattr("preceptor.ops.chosen.slice_length", lambda _: length)
        monkeypatch.setattr(projection, "BUDGET", 16 * 11)
    options: dict[str, Any] = HEADS[head]
    held = shown(**options)
    labels = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(1))
    read = labels % 3 != 0
    labels = torch.where(read, labels, -1)
    ours, theirs = chosen_log_probs(held, labels, read), dense(held, labels, read)
    torch.testing.assert_close(ours, theirs)
    # What is summed is not linear in the positions: each one's gradient depends on all others.
    grads = torch.autograd.grad(ours.sum(dim=1).square().sum(), leaves(held))
    expected = torch.autograd.grad(theirs.sum(dim=1).square().sum(), leaves(held))
    for own, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(own, other)
    assert not grads[0][~read].any()


def test_a_graph_may_be_walked_twice() -> None:
    held = shown()
    labels = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(1))
    loss = chosen_log_probs(held, labels, torch.ones_like(labels, dtype=torch.bool)).sum()
    first = torch.autograd.grad(loss, leaves(held), retain_graph=True)
    second = torch.autograd.grad(loss, leaves(held))
    for own, other in zip(first, second, strict=True):
        torch.testing.assert_close(own, other)


def test_nothing_to_read_is_zero_with_a_graph() -> None:
    held = shown()
    labels = torch.full((3, 7), -1)
    found = chosen_log_probs(held, labels, labels >= 0)
    assert not found.any()
    grads = torch.autograd.grad(found.sum(), leaves(held))
    assert not any(grad.any() for grad in grads)


def test_bfloat16_hidden_states_give_float32() -> None:
    held = shown()
    low = Projected(held.hidden.bfloat16(), replace(held.head, weight=held.head.weight.bfloat16()))
    labels = torch.zeros(3, 7, dtype=torch.int64)
    found = chosen_log_probs(low, labels, labels == 0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, dense(held, labels, labels == 0).float(), rtol=0.05, atol=0.05
    )
    found.sum().backward()
    assert held.head.weight.grad is not None
    assert held.head.weight.grad.isfinite().all()


def test_the_teacher_is_asked_without_a_graph() -> None:
    held = shown()
    labels = torch.zeros(3, 7, dtype=torch.int64)
    with torch.no_grad():
        assert not chosen_log_probs(held, labels, labels == 0).requires_grad
