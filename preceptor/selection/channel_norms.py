"""Norms of channels, each of them at many places: of groups, and of statistics that stand still.

Dimension key: b examples, c channels, *s further axes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.entry import Entry
from preceptor.selection.first_order import first_order
from preceptor.selection.ledger import Ledger
from preceptor.selection.norms import Parameter, along_channels, is_cast, normed
from preceptor.selection.places import channels_last, inner, summed

_BATCH_BACKWARD = torch.ops.aten.native_batch_norm_backward.default
_GROUP_BACKWARD = torch.ops.aten.native_group_norm_backward.default
_FEW = 16
"""Places of a channel that are soon gone through one after another."""


def group_normed(
    ledger: Ledger, x: Tensor, groups: int, weight: Parameter, bias: Parameter, eps: float
) -> Tensor:
    """A group norm: `normed` faster, where nothing is cast."""
    if is_cast(x, weight[0], bias[0]):

        def norm(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
            return F.group_norm(x, groups, scale, shift, eps)

        return normed(ledger, x, norm, weight, bias, channels=True)
    found = _GroupNormed.apply(ledger.anchor, x, (groups, weight, bias, eps))
    assert isinstance(found, Tensor)
    return found


class _GroupNormed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        call: tuple[int, Parameter, Parameter, float],
    ) -> Tensor:
        groups, weight, bias, eps = call
        sizes = (len(x), x.shape[1], x.shape[2:].numel(), groups)
        x = x if channels_last(x) else x.contiguous()
        found, mean, rate = torch.native_group_norm(x, weight[0], bias[0], *sizes, eps)
        ctx.save_for_backward(x, mean, rate, weight[0])
        ctx.entries, ctx.sizes = (weight[1], bias[1]), sizes
        return found

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, mean, rate, weight = ctx.saved_tensors
        count, channels, places, groups = ctx.sizes
        if channels_last(x):
            slope = outer[0].contiguous(memory_format=torch.channels_last)
            each = [part.repeat_interleave(channels // groups, dim=1) for part in (mean, rate)]
            _add_sums(ctx.entries, slope, x, *each)
            wanted = [ctx.needs_input_grad[1], False, False]
            found = _GROUP_BACKWARD(slope, x, mean, rate, weight, *ctx.sizes, wanted)
            return None, found[0], None
        wanted = [ctx.needs_input_grad[1], *(entry is not None for entry in ctx.entries)]
        # Each group of each example is one of its own: torch's pass over all gives each one's.
        shape = (1, count * channels, places)
        back, *found = _GROUP_BACKWARD(
            outer[0].contiguous().view(shape),
            x.view(shape),
            mean.view(1, -1),
            rate.view(1, -1),
            None if weight is None else weight.repeat(count),
            *(1, count * channels, places, count * groups),
            wanted,
        )
        for entry, each in zip(ctx.entries, found, strict=True):
            if entry is not None:
                entry.add_flat(entry.by_example(each.view(count, -1)).sum(dim=1))
        return None, back.view_as(x) if wanted[0] else None, None


def batch_normed(
    ledger: Ledger,
    x: Tensor,
    statistics: tuple[Tensor, Tensor, float],
    weight: Parameter,
    bias: Parameter,
) -> Tensor:
    """A batch norm whose mean, variance and eps stand still: a map of each channel by itself."""
    found = _BatchNormed.apply(ledger.anchor, x, (statistics, weight, bias))
    assert isinstance(found, Tensor)
    return found


class _BatchNormed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        call: tuple[tuple[Tensor, Tensor, float], Parameter, Parameter],
    ) -> Tensor:
        statistics, weight, bias = call
        mean, variance, eps = statistics
        ctx.save_for_backward(x, weight[0], mean, variance)
        ctx.entries, ctx.eps = (weight[1], bias[1]), eps
        return F.batch_norm(x, mean, variance, weight[0], bias[0], eps=eps)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, weight, mean, variance) = outer, ctx.saved_tensors
        own, shift = ctx.entries
        is_soon = x.shape[2:].numel() <= _FEW or channels_last(x)
        if is_soon and slope.dtype == x.dtype == mean.dtype:
            rate = (variance + ctx.eps).rsqrt()
            _add_sums(ctx.entries, slope, x, mean, rate)
            both = along_channels(rate if weight is None else rate * weight, x)
            return None, slope * both, None
        # Each channel of each example is one of its own: torch's pass over both gives all at once.
        apart, count = (1, x.shape[0] * x.shape[1], -1), len(x)
        wanted = [ctx.needs_input_grad[1], own is not None, shift is not None]
        weight = torch.ones_like(mean) if weight is None else weight
        each = torch.stack((weight.to(mean.dtype), mean, variance)).repeat(1, count).unbind()
        slopes, given = slope.to(x.dtype).reshape(apart), x.reshape(apart)
        back, scales, shifts = _BATCH_BACKWARD(
            slopes, given, *each, None, None, False, ctx.eps, wanted
        )
        for entry, found in ((own, scales), (shift, shifts)):
            if entry is not None:
                entry.add_flat(entry.by_example(found.view(count, -1)).sum(dim=1))
        return None, back.view_as(x) if wanted[0] else None, None


def _add_sums(
    entries: Sequence[Entry | None], slope: Tensor, x: Tensor, mean: Tensor, rate: Tensor
) -> None:
    """Add what the sums over places give, for means and rates [o] or [b, o]."""
    own, shift = entries
    sums = summed(slope.unsqueeze(-1).flatten(2))
    if own is not None:
        each = inner(slope, x).addcmul_(sums, mean, value=-1.0).mul_(rate)
        own.add_flat(own.by_example(each).sum(dim=1))
    if shift is not None:
        shift.add_flat(shift.by_example(sums).sum(dim=1))
