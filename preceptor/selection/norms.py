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
from preceptor.selection.first_order import first_order
from preceptor.selection.ledger import Ledger
from preceptor.selection.parts import in_parts
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
    @first_order
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
    if is_cast(x, weight[0], bias[0]):

        def norm(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
            return F.layer_norm(x, shape, scale, shift, eps)

        return normed(ledger, x, norm, weight, bias, channels=False)
    found = _LayerNormed.apply(ledger.anchor, x, (shape, weight, bias, eps, once))
    assert isinstance(found, Tensor)
    return found


def is_cast(x: Tensor, *learned: Tensor | None) -> bool:
    """Whether autocast would have a part in it, or precisions differ."""
    kind = x.dtype
    return kind not in WIDE or any(each is not None and each.dtype != kind for each in learned)


class _LayerNormed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        call: tuple[Sequence[int], Parameter, Parameter, float, bool],  # Torch counts arguments.
    ) -> Tensor:
        shape, weight, bias, eps, once = call
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
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, mean, rate, weight, bias = ctx.saved_tensors
        given, learned, (own, shift) = (outer[0], x, mean, rate), (weight, bias), ctx.entries
        entry = shift if own is None else own
        if entry is not None:
            examples = entry.ledger.examples
            is_long = weight is not None and x.numel() >= _LONG * examples
            if is_long and not entry.axis:
                _add_each(ctx, given, learned, examples)
            else:
                rows = _by_example(entry, given)
                if own is not None:
                    own.add_flat(_scales(*rows))
                if shift is not None:
                    shift.add_flat(rows[0].sum(dim=1, dtype=shift.ledger.dtype))
        wanted = [ctx.needs_input_grad[1], False, False]
        back = _layer_back(ctx.shape, given, learned, wanted)[0]
        return None, back, None


def _add_each(ctx: Any, given: Sequence[Tensor], learned: Any, examples: int) -> None:
    """Torch's pass over the gradients of weight and bias, an example at a time."""
    entry = next(each for each in ctx.entries if each is not None)
    if len(given[1]) % examples:
        raise misplaced(entry, given[1].shape)
    each = zip(*(part.unflatten(0, (examples, -1)) for part in given), strict=True)
    wanted = [False, *(entry is not None for entry in ctx.entries)]
    found = [_layer_back(ctx.shape, one, learned, wanted) for one in each]
    for place, entry in enumerate(ctx.entries, 1):
        if entry is not None:
            entry.add_flat(torch.stack([one[place] for one in found]).flatten(1))


def _scales(
    slope: Float[Tensor, "b t n"],
    x: Float[Tensor, "b t n"],
    mean: Float[Tensor, "b t 1"],
    rate: Float[Tensor, "b t 1"],
) -> Float[Tensor, "b n"]:
    """The weight's gradients: slopes times what is normed, some examples at a time."""
    step = max(1, _CACHED * x.shape[0] // x.numel())
    parts = in_parts(step, slope, x, mean, rate)
    # What was made last is still in the cache.
    found = [torch.bmm(rate.mT, (x - mean).mul_(slope)) for slope, x, mean, rate in parts]
    return (found[0] if len(found) == 1 else torch.cat(found)).squeeze(1)


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
    (rows,) = _by_example(entry, [each])
    entry.add_flat(rows.sum(dim=1, dtype=entry.ledger.dtype))


def _by_example(entry: Entry, every: Sequence[Tensor]) -> Sequence[Float[Tensor, "b t n"]]:
    """Each example's rows of numbers that are the parameter's."""
    axes, shape = entry.parameter.dim(), every[0].shape
    if axes == 1 and len(shape) == 3 and shape[0] == entry.ledger.examples and not entry.axis:
        return every
    each = (x if axes == 1 else x.flatten(x.dim() - axes) for x in every)
    return [entry.by_example(x) for x in each]
