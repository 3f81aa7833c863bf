"""A convolution and the batch norm behind it as one convolution, where statistics stand still.

With s = scale / sqrt(variance + eps) the two are a convolution with filters s W and a bias. Where
G is an example's gradient of those filters and g of that bias, the filters' own is s G, the shift's
g, and the scale's (sum of W G over a filter - mean g) / sqrt(variance + eps): what the convolution
gave is neither kept nor read again. Where G is sketched and not made, the scale's is read off what
the norm gave, y: (sum of y's slopes times y - shift g) / scale.

Dimension key: b examples, c channels, o outputs, *s and *l places of in- and output.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.selection.entry import Entry
from preceptor.selection.filters import gradients, is_sketched, sketched
from preceptor.selection.first_order import first_order
from preceptor.selection.fusions import Still
from preceptor.selection.geometry import Geometry
from preceptor.selection.places import inner, summed

_WIDE = (torch.float32, torch.float64)
_STEEP = 1e3
"""How many times its scale a shift may be, so that y says how large the scaled part of it is."""


def fits(entry: Entry) -> bool:
    """Whether the filters are in single precision or better."""
    return entry.parameter.dtype in _WIDE


def is_steep(still: Still) -> bool:
    """Whether what the norm gives says how large each scale's part of it is."""
    return bool((still.scale[0].abs() * _STEEP > still.shift[0].abs()).all())


def fused(
    x: Float[Tensor, "b c *s"], weight: Tensor, entry: Entry, still: Still, geometry: Geometry
) -> Float[Tensor, "b o *l"]:
    """What the norm gives for what the convolution gives."""
    found = _Fused.apply(entry.ledger.anchor, x, (weight, entry, still, geometry))
    assert isinstance(found, Tensor)
    return found


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        call: tuple[Tensor, Entry, Still, Geometry],
    ) -> Tensor:
        weight, entry, still, geometry = call
        rate = (still.variance + still.eps).rsqrt()
        both = still.scale[0] * rate
        filters = weight * both.view(-1, *[1] * (weight.dim() - 1))
        found = geometry.product(x, filters, still.shift[0] - still.mean * both)
        ctx.save_for_backward(x, weight, filters, rate, both)
        ctx.entry, ctx.still, ctx.geometry = entry, still, geometry
        # A rectifier may write to it: where slopes are not 0 that changes nothing. What groups give
        # is soon made again.
        ctx.given = found.detach() if is_sketched(entry) and geometry.groups == 1 else None
        return found

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, weight, filters, rate, both) = outer, ctx.saved_tensors
        still, given, ctx.given = ctx.still, ctx.given, None
        shift = summed(slope.flatten(2))
        if not is_sketched(ctx.entry):
            scale = _made(ctx, slope, x, weight, both)
            scale = (scale - still.mean * shift) * rate
        else:
            ctx.entry.add_parts(sketched(ctx.entry, slope, x, ctx.geometry), both)
            if given is None:
                given = ctx.geometry.product(x, filters, still.shift[0] - still.mean * both)
            scale = inner(slope, given)
            scale = (scale - still.shift[0] * shift) / still.scale[0]
        still.shift[1].add_flat(shift)
        still.scale[1].add_flat(scale)
        back = None
        if ctx.needs_input_grad[1]:
            back = ctx.geometry.back(slope, x, filters, to_input=True)
        return None, back, None


def _made(ctx: Any, slope: Tensor, x: Tensor, weight: Tensor, both: Tensor) -> Float[Tensor, "b o"]:
    """Add the filters' gradients, which are made; the sum of W G over each filter."""
    flat, found = weight.flatten(1), list[Tensor]()

    def own() -> Iterator[Tensor]:
        for each in gradients(slope, x, weight, ctx.geometry):
            found.append(summed(each * flat))
            yield each

    ctx.entry.add_matrices(own(), both)
    return torch.cat(found)
