"""Norms with a weight and a bias: what is kept for the backward pass is their input alone.

Dimension key: b examples, c channels, *s further axes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.entry import Entry
from preceptor.selection.ledger import Ledger

Norm = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""A norm of x with a weight and a bias, or without; no example's answer depends on another."""
_BACKWARD = torch.ops.aten.native_batch_norm_backward.default
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
        ctx.save_for_backward(x, weight[0], mean, variance)
        ctx.entries, ctx.eps = (weight[1], bias[1]), eps
        return F.batch_norm(x, mean, variance, weight[0], bias[0], eps=eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, weight, mean, variance) = outer, ctx.saved_tensors
        own, shift = ctx.entries
        # Each channel of each example is one of its own: torch's pass over both gives all at once.
        apart, count = (1, x.shape[0] * x.shape[1], -1), len(x)
        wanted = [ctx.needs_input_grad[1], own is not None, shift is not None]
        weight = torch.ones_like(mean) if weight is None else weight
        each = torch.stack((weight.to(mean.dtype), mean, variance)).repeat(1, count).unbind()
        slopes, given = slope.to(x.dtype).reshape(apart), x.reshape(apart)
        back, scales, shifts = _BACKWARD(slopes, given, *each, None, None, False, ctx.eps, wanted)
        for entry, found in ((own, scales), (shift, shifts)):
            if entry is not None:
                entry.add_flat(entry.by_example(found.view(count, -1)).sum(dim=1))
        return None, back.view_as(x) if wanted[0] else None, None, None, None


def _along_channels(value: Tensor, x: Tensor) -> Tensor:
    return value.view(-1, *[1] * (x.dim() - 2))


def _by_channel(entry: Entry, x: Tensor) -> Tensor:
    """The sum over an example's positions [b, c], in float32 or better."""
    each = x.flatten(2).sum(dim=2, dtype=torch.promote_types(x.dtype, torch.float32))
    return entry.by_example(each).sum(dim=1)


def _add(entry: Entry, each: Tensor, channels: bool) -> None:
    """The sum over an example's positions."""
    if channels:
        entry.add_flat(_by_channel(entry, each))
        return
    rows = each.reshape(*each.shape[: each.dim() - entry.parameter.dim()], -1)
    kind = entry.ledger.dtype
    entry.add_flat(entry.by_example(rows).sum(dim=1, dtype=kind))
