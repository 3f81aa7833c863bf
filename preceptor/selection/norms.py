"""Norms with a weight and a bias: what is kept for the backward pass is their input alone.

Dimension key: b examples, c channels, *s further axes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.ledger import Entry, Ledger

Norm = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""A norm of x with a weight and a bias, or without; no example's answer depends on another."""
Parameter = tuple[Tensor | None, Entry | None]
"""A weight or bias, and its entry where its gradient counts."""


def normed(
    ledger: Ledger, x: Tensor, norm: Norm, weight: Parameter, bias: Parameter, *, channels: bool
) -> Tensor:
    """norm(x) times the weight plus the bias.

    Args:
        ledger: of the entries.
        x: [b, ...].
        norm: what is computed.
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
        ctx.save_for_backward(x, weight[0])
        ctx.norm, ctx.entries, ctx.channels = norm, (weight[1], bias[1]), channels
        return norm(x, weight[0], bias[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, weight) = outer, ctx.saved_tensors
        own, shift = ctx.entries
        with torch.enable_grad():
            given = x.detach().requires_grad_(ctx.needs_input_grad[1])
            again = ctx.norm(given, None, None)
        if own is not None:
            _add(own, slope * again.detach(), ctx.channels)
        if shift is not None:
            _add(shift, slope, ctx.channels)
        back = None
        if ctx.needs_input_grad[1]:
            if weight is not None:
                slope = slope * (_along_channels(weight, x) if ctx.channels else weight)
            (back,) = torch.autograd.grad(again, given, slope.to(again.dtype))
        return None, back, None, None, None, None


def batch_normed(
    ledger: Ledger,
    x: Tensor,
    statistics: tuple[Tensor, Tensor, float],
    weight: Parameter,
    bias: Parameter,
) -> Tensor:
    """A batch norm whose mean, variance and eps stand still: a map of each channel by itself."""
    found = _BatchNormed.apply(ledger.anchor, x, statistics, weight, bias)
    assert isinstance(found, Tensor)
    return found


class _BatchNormed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        statistics: tuple[Tensor, Tensor, float],
        weight: Parameter,
        bias: Parameter,
    ) -> Tensor:
        mean, variance, eps = statistics
        ctx.save_for_backward(x, weight[0], mean, (variance + eps).rsqrt())
        ctx.entries = weight[1], bias[1]
        return F.batch_norm(x, mean, variance, weight[0], bias[0], eps=eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, weight, mean, inverse) = outer, ctx.saved_tensors
        own, shift = ctx.entries
        total = _by_channel(slope)
        if own is not None:
            own.add_flat((_by_channel(slope, x) - mean * total) * inverse)
        if shift is not None:
            shift.add_flat(total)
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None
        factor = inverse if weight is None else inverse * weight
        return None, slope * _along_channels(factor, x).to(slope.dtype), None, None, None


def _along_channels(value: Tensor, x: Tensor) -> Tensor:
    return value.view(-1, *[1] * (x.dim() - 2))


def _by_channel(x: Tensor, other: Tensor | None = None) -> Tensor:
    """The sum of x, or of its product with another, over an example's positions [b, c].

    In float32 or better; no product is laid down.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    rows = x.reshape(*x.shape[:2], -1)
    if other is None:
        return rows.sum(dim=2, dtype=wide)
    return torch.linalg.vecdot(rows.to(wide), other.reshape(rows.shape).to(wide))


def _add(entry: Entry, each: Tensor, channels: bool) -> None:
    """The sum over an example's positions."""
    if channels:
        entry.add_flat(_by_channel(each))
        return
    rows = each.reshape(*each.shape[: each.dim() - entry.parameter.dim()], -1)
    kind = entry.ledger.total.dtype
    entry.add_flat(entry.ledger.by_example(rows).sum(dim=1, dtype=kind))
