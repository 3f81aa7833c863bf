"""Hidden states and a head, scored a slice of positions at a time: no [N, V] tensor exists.

Gradients with respect to hidden states, weight and bias are taken in the forward pass, slice by
slice (four matrix products with the teacher's), so that a slice's logits are gone before the next
one is made. The backward pass only scales what is stored.

Dimension key: n positions, c of them in a slice, v classes, d width.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.distributions import Head, at_least_float32

BUDGET = 1 << 23
"""Entries c v of one slice, where the caller says nothing."""


@runtime_checkable
class Scorer(Protocol):
    """What a slice's logits are worth; weights, masks and counts are inside."""

    def value(self, logits: Float[Tensor, "c v"], rows: slice) -> Float[Tensor, ""]:
        """The slice's share of the loss, differentiable in `logits` (float32 or better)."""
        ...

    def gradient_(self, logits: Float[Tensor, "c v"], rows: slice) -> Float[Tensor, ""] | None:
        """The same, its gradient written over `logits`; None, and nothing written, where the
        gradient has no closed form here."""
        ...


def slice_length(classes: int) -> int:
    """Positions in a slice, where the caller says nothing."""
    return max(16, min(4096, BUDGET // classes))


def projected(
    hidden: Float[Tensor, "n d"], head: Head, scorer: Scorer, *, length: int = 0
) -> Float[Tensor, ""]:
    """The sum over slices of what `scorer` makes of each slice's logits.

    Args:
        hidden: [n, d], with their graph.
        head: the model's own; its weight may be a parameter or computed from some.
        scorer: sees each slice once, in order.
        length: positions in a slice; 0 for a length that suits the number of classes.

    Returns:
        A scalar in float32 or better, connected to hidden states, weight and bias also where n
        is 0.
    """
    total = _Projected.apply(
        hidden,
        head.weight,
        head.bias,
        (head.scale, head.cap),
        scorer,
        length or slice_length(len(head.weight)),
        torch.is_grad_enabled(),
    )
    assert isinstance(total, Tensor)
    return total


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        form: tuple[float, float],
        scorer: Scorer,
        length: int,
        graded: bool,
    ) -> Tensor:
        head = Head(weight, bias, *form)
        total = at_least_float32(hidden.new_zeros(()))
        inputs = (hidden, weight, bias)
        wants = [graded and needed for needed in ctx.needs_input_grad[:3]]
        grads = [
            None
            if tensor is None or not want
            else torch.zeros_like(tensor, dtype=at_least_float32(tensor[:0]).dtype)
            for tensor, want in zip(inputs, wants, strict=True)
        ]
        with torch.autocast(hidden.device.type, enabled=False):
            # An empty set is one empty slice, so that every process has every term.
            for start in range(0, max(1, len(hidden)), length):
                rows = slice(start, min(start + length, len(hidden)))
                total = total + _one(hidden, head, scorer, rows, grads, any(wants))
        ctx.save_for_backward(*grads)
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        scaled = [
            None if grad is None else grad.mul_(outer[0]).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None, None)


def _one(
    hidden: Tensor,
    head: Head,
    scorer: Scorer,
    rows: slice,
    grads: list[Tensor | None],
    graded: bool,
) -> Tensor:
    """One slice: its value, its gradients added to `grads`."""
    own = hidden[rows].to(head.weight.dtype)
    logits = head.logits(own)
    if not graded:
        return scorer.value(logits, rows).detach()
    # The capped logits' slope is read from their values, which the gradient may overwrite.
    slope = 1 - (logits / head.cap).square() if head.cap else None
    value = scorer.gradient_(logits, rows)
    if value is None:
        leaf = logits.detach().requires_grad_()
        with torch.enable_grad():
            value = scorer.value(leaf, rows)
        grad = torch.autograd.grad(value, leaf)[0] if value.requires_grad else None
        if grad is None:
            return value.detach()
    else:
        grad = logits
    if slope is not None:
        grad = grad.mul_(slope)
    if head.scale != 1.0:
        grad = grad.mul_(head.scale)
    of_hidden, of_weight, of_bias = grads
    narrow = grad.to(head.weight.dtype)
    if of_hidden is not None:
        of_hidden[rows] = narrow @ head.weight
    if of_weight is not None:
        if of_weight.dtype == narrow.dtype:
            of_weight.addmm_(narrow.T, own)
        else:
            of_weight += narrow.T @ own
    if of_bias is not None:
        of_bias += grad.sum(dim=0)
    return value.detach()
