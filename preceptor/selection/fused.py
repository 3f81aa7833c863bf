"""A convolution and the batch norm behind it as one convolution, where statistics stand still.

With s = scale / sqrt(variance + eps) the two are a convolution with filters s W and a bias. Where
G is an example's gradient of those filters and g of that bias, the filters' own is s G, the shift's
g, and the scale's (sum of W G over a filter - mean g) / sqrt(variance + eps): what the convolution
gave is neither kept nor read again.

Dimension key: b examples, c channels, o outputs, *s and *l places of in- and output.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.selection.convolution import Geometry, gradients, is_sketched
from preceptor.selection.entry import Entry
from preceptor.selection.fusions import Still

_WIDE = (torch.float32, torch.float64)


def fits(entry: Entry, x: Tensor, geometry: Geometry) -> bool:
    """Whether a convolution's filters' own gradients are made, in single precision or better."""
    is_wide = entry.parameter.dtype in _WIDE
    return is_wide and not is_sketched(entry, geometry, geometry.places(x, entry.parameter))


def fused(
    x: Float[Tensor, "b c *s"], weight: Tensor, entry: Entry, still: Still, geometry: Geometry
) -> Float[Tensor, "b o *l"]:
    """What the norm gives for what the convolution gives."""
    found = _Fused.apply(entry.ledger.anchor, x, weight, entry, still, geometry)
    assert isinstance(found, Tensor)
    return found


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        weight: Tensor,
        entry: Entry,
        still: Still,
        geometry: Geometry,
    ) -> Tensor:
        rate = (still.variance + still.eps).rsqrt()
        both = still.scale[0] * rate
        filters = weight * both.view(-1, *[1] * (weight.dim() - 1))
        ctx.save_for_backward(x, weight, filters, rate, both)
        ctx.entry, ctx.still, ctx.geometry = entry, still, geometry
        return geometry.product(x, filters, still.shift[0] - still.mean * both)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, weight, filters, rate, both) = outer, ctx.saved_tensors
        still, flat = ctx.still, weight.flatten(1)
        shift = slope.flatten(2).sum(dim=2)
        scale: list[Tensor] = []

        def own() -> Any:
            for each in gradients(slope, x, weight, ctx.geometry):
                scale.append((each * flat).sum(dim=2))
                yield each

        ctx.entry.add_matrices(own(), both)
        still.shift[1].add_flat(shift)
        still.scale[1].add_flat((torch.cat(scale) - still.mean * shift) * rate)
        back = None
        if ctx.needs_input_grad[1]:
            back = ctx.geometry.back(slope, x, filters, to_input=True)
        return None, back, None, None, None, None
