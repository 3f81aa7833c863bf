"""Norms with a weight and a bias: what is kept for the backward pass is their input alone.

Dimension key: b examples, c channels, *s further axes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from preceptor.selection.ledger import Entry, Ledger

Norm = Callable[[Tensor], Tensor]
Parameter = tuple[Tensor | None, Entry | None]
"""A weight or bias, and its entry where its gradient counts."""


def normed(
    ledger: Ledger, x: Tensor, norm: Norm, weight: Parameter, bias: Parameter, *, channels: bool
) -> Tensor:
    """norm(x) times the weight plus the bias.

    Args:
        ledger: of the entries.
        x: [b, ...].
        norm: without a weight or bias; no example's answer depends on another.
        weight, bias: along axis 1, [c], where the norm is of `channels`; else along the last axes.
        channels: which.
    """
    found = _Normed.apply(ledger.anchor, x, norm, weight, bias, channels)
    assert isinstance(found, Tensor)
    return found


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        norm: Norm,
        weight: Parameter,
        bias: Parameter,
        channels: bool,
    ) -> Tensor:
        scale, shift = (_along(each[0], x, channels) for each in (weight, bias))
        ctx.save_for_backward(x, scale)
        ctx.norm, ctx.entries, ctx.channels = norm, (weight[1], bias[1]), channels
        found = norm(x)
        if scale is not None:
            found = found * scale
        return found if shift is None else found + shift

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, scale) = outer, ctx.saved_tensors
        weight, bias = ctx.entries
        with torch.enable_grad():
            given = x.detach().requires_grad_(ctx.needs_input_grad[1])
            again = ctx.norm(given)
        if weight is not None:
            _add(weight, slope * again.detach(), ctx.channels)
        if bias is not None:
            _add(bias, slope, ctx.channels)
        back = None
        if ctx.needs_input_grad[1]:
            inner = slope if scale is None else slope * scale
            (back,) = torch.autograd.grad(again, given, inner.to(again.dtype))
        return None, back, None, None, None, None


def _along(value: Tensor | None, x: Tensor, channels: bool) -> Tensor | None:
    if value is None or not channels:
        return value
    return value.view(-1, *[1] * (x.dim() - 2))


def _add(entry: Entry, each: Tensor, channels: bool) -> None:
    """The sum over an example's positions."""
    kind = entry.ledger.total.dtype
    if channels:
        entry.add_flat(each.flatten(2).sum(dim=2, dtype=kind) if each.dim() > 2 else each)
        return
    rows = each.reshape(*each.shape[: each.dim() - entry.parameter.dim()], -1)
    entry.add_flat(entry.ledger.by_example(rows).sum(dim=1, dtype=kind))
