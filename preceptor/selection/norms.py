"""Norms with a weight and a bias: what is kept for the backward pass is their input alone.

Dimension key: b examples, c channels, *s further axes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.entry import Entry
from preceptor.selection.ledger import Ledger
from preceptor.selection.strange import misplaced

Norm = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""A norm of x with a weight and a bias, or without; no example's answer depends on another."""
_BACKWARD = torch.ops.aten.native_layer_norm_backward.default
WIDE = (torch.float32, torch.float64)
"""What autocast leaves as it is, in norms."""
_LONG = 1 << 14
"""Numbers of an example that are worth a call of their own."""
_CACHED = 1 << 17
"""Numbers that are gone through several times at once."""
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
                slope = slope * (along_channels(weight, x) if ctx.channels else weight)
            (back,) = torch.autograd.grad(again, given, slope.to(again.dtype))
        return None, back, None, None, None, None


def layer_normed(
    ledger: Ledger,
    x: Tensor,
    shape: Sequence[int],
    weight: Parameter,
    bias: Parameter,
    eps: float,
    *,
    once: bool = False,
) -> Tensor:
    """A layer norm over the last axes, of this `shape`: `normed` faster, where nothing is cast.

    Where x is the same for all examples it is taken `once`, and what is given back is not to be
    written to.
    """
    given = [x, *(each for each, _ in (weight, bias) if each is not None)]
    if any(each.dtype != x.dtype for each in given) or x.dtype not in WIDE:

        def norm(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
            return F.layer_norm(x, shape, scale, shift, eps)

        return normed(ledger, x, norm, weight, bias, channels=False)
    found = _LayerNormed.apply(ledger.anchor, x, shape, weight, bias, eps, once)
    assert isinstance(found, Tensor)
    return found


class _LayerNormed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        shape: Sequence[int],
        weight: Parameter,
        bias: Parameter,
        eps: float,
        once: bool,
    ) -> Tensor:
        given = x[:1] if once else x
        found, mean, scale = torch.native_layer_norm(given, shape, weight[0], bias[0], eps)
        if once:
            found = found.expand_as(x)
            # Torch's backward pass reads them as they lie.
            mean, scale = (each.repeat(len(x), *[1] * (x.dim() - 1)) for each in (mean, scale))
        ctx.save_for_backward(x, mean, scale, weight[0], bias[0])
        ctx.shape, ctx.entries = shape, (weight[1], bias[1])
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, mean, scale, weight, bias = ctx.saved_tensors
        given, learned = (outer[0], x, mean, scale), (weight, bias)
        wanted = [ctx.needs_input_grad[1], *(entry is not None for entry in ctx.entries)]
        known = (each for each in ctx.entries if each is not None and not each.axis)
        examples = next((each.ledger.examples for each in known), 0)
        if examples and weight is not None and x.numel() >= _LONG * examples:
            _add_each(ctx, given, learned, wanted, examples)
        else:
            own, shift = ctx.entries
            if own is not None:
                own.add_flat(_scales(own, given))
            if shift is not None:
                _add(shift, outer[0], channels=False)
        back = _layer_back(ctx.shape, given, learned, [wanted[0], False, False])[0]
        return None, back, None, None, None, None, None


def _add_each(
    ctx: Any, given: Sequence[Tensor], learned: Any, wanted: list[bool], examples: int
) -> None:
    """Torch's pass over the gradients of weight and bias, an example at a time."""
    entry = next(each for each in ctx.entries if each is not None)
    if len(given[1]) % examples:
        raise misplaced(entry, given[1].shape)
    each = zip(*(part.unflatten(0, (examples, -1)) for part in given), strict=True)
    found = [_layer_back(ctx.shape, one, learned, [False, *wanted[1:]]) for one in each]
    for place, entry in enumerate(ctx.entries, 1):
        if entry is not None:
            entry.add_flat(torch.stack([one[place] for one in found]).flatten(1))


def _scales(entry: Entry, given: Sequence[Tensor]) -> Float[Tensor, "b n"]:
    """The weight's gradients: slopes times what is normed, some examples at a time."""
    slope, x, mean, rate = (_by_example(entry, each) for each in given)
    step = max(1, _CACHED * x.shape[0] // x.numel())
    if step >= x.shape[0]:
        return torch.bmm(rate.mT, (x - mean).mul_(slope)).squeeze(1)
    parts = zip(*(each.split(step) for each in (slope, x, mean, rate)), strict=True)
    # What was made last is still in the cache.
    found = [torch.bmm(rate.mT, (x - mean).mul_(slope)) for slope, x, mean, rate in parts]
    return torch.cat(found).squeeze(1)


def _layer_back(
    shape: Sequence[int], given: Sequence[Tensor], learned: Any, wanted: list[bool]
) -> Any:
    slope, x, mean, scale = given
    return _BACKWARD(slope, x, shape, mean, scale, *learned, wanted)


def along_channels(value: Tensor, x: Tensor) -> Tensor:
    """With axes so that it stands beside the channels of x."""
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
    entry.add_flat(_by_example(entry, each).sum(dim=1, dtype=entry.ledger.dtype))


def _by_example(entry: Entry, each: Tensor) -> Float[Tensor, "b t n"]:
    """Each example's rows of numbers that are the parameter's."""
    axes = entry.parameter.dim()
    return entry.by_example(each if axes == 1 else each.flatten(each.dim() - axes))
