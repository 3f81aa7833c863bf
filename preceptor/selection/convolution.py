"""Convolutions: patches of the input stand in for a linear layer's rows.

P_in is applied as one more convolution, with random signs for filters, so that only k numbers a
place are kept. Where groups are convolved apart, or the filters' gradient is cheaper to make than
to sketch, each example's own is made from its patches.

Dimension key: b examples, c channels, o outputs, *s and *l places of in- and output, g groups,
p numbers a patch, l places.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad as input_gradients

from preceptor.errors import ModelError
from preceptor.selection.ledger import Entry, Ledger

PATCHES = 1 << 22
"""Numbers of patches that exist at once."""


def convolution(
    ledger: Ledger,
    x: Float[Tensor, "b c *s"],
    weight: tuple[Tensor, Entry | None],
    bias: tuple[Tensor | None, Entry | None],
    geometry: tuple[Any, Any, Any, int],
) -> Float[Tensor, "b o *l"]:
    """A convolution over one axis or two; `geometry` is stride, padding, dilation, groups.

    Raises:
        ModelError: over three axes, or with padding by name.
    """
    axes = weight[0].dim() - 2
    if axes > 2 or isinstance(geometry[1], str) or len(x) != ledger.examples:
        raise ModelError(
            f"a convolution over {axes} axes, padding {geometry[1]!r}, met {list(x.shape)}",
            "patches are laid out for one or two axes, padding in numbers and one example a row",
            "Use exact features for this model.",
        )
    sizes = tuple(_each(value, axes) for value in geometry[:3])
    found = _Convolution.apply(ledger.anchor, x, weight, bias, (*sizes, geometry[3]))
    assert isinstance(found, Tensor)
    return found


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return (
        tuple(value) * (axes // len(value)) if isinstance(value, tuple | list) else (value,) * axes
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        weight: tuple[Tensor, Entry | None],
        bias: tuple[Tensor | None, Entry | None],
        geometry: tuple[Any, Any, Any, int],
    ) -> Tensor:
        entry = weight[1]
        given = x
        if entry is not None and _is_sketched(entry, geometry):
            given = _convolve(x, _filters(entry).to(x.dtype), None, (*geometry[:3], 1))
        ctx.save_for_backward(None if entry is None else given, weight[0])
        ctx.entries, ctx.geometry, ctx.shape = (entry, bias[1]), geometry, x.shape
        return _convolve(x, weight[0], bias[0], geometry)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (given, weight) = outer, ctx.saved_tensors
        (entry, of_bias), geometry = ctx.entries, ctx.geometry
        rows = slope.flatten(2)
        if entry is not None and _is_sketched(entry, geometry):
            entry.add(entry.rows.raw(rows.mT), given.flatten(2).mT)
        elif entry is not None:
            entry.add_matrix(_gradients(rows, given, weight, geometry))
        if of_bias is not None:
            of_bias.add_flat(rows.sum(dim=2, dtype=of_bias.ledger.total.dtype))
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None
        back = input_gradients.conv1d_input if slope.dim() == 3 else input_gradients.conv2d_input
        return None, back(ctx.shape, weight.to(slope.dtype), slope, *geometry), None, None, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
    return (F.conv1d if weight.dim() == 3 else F.conv2d)(x, weight, bias, *geometry)


def _is_sketched(entry: Entry, geometry: tuple[Any, Any, Any, int]) -> bool:
    return geometry[3] == 1 and entry.columns.table is not None


def _filters(entry: Entry) -> Tensor:
    table = entry.columns.table
    assert table is not None
    return table.T.reshape(-1, *entry.parameter.shape[1:])


def _gradients(
    slope: Float[Tensor, "b o l"], x: Tensor, weight: Tensor, geometry: tuple[Any, Any, Any, int]
) -> Float[Tensor, "b o p"]:
    """Each example's gradient of the filters, from its patches; few examples at a time."""
    stride, padding, dilation, groups = geometry
    kernel = tuple(weight.shape[2:])
    if len(kernel) == 1:  # One row of pixels.
        x, kernel = x.unsqueeze(2), (1, *kernel)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    wide = torch.promote_types(slope.dtype, torch.float32)
    patch = x.shape[1] * math.prod(kernel)
    step = max(1, PATCHES // (patch * slope.shape[2]))
    found: list[Tensor] = []
    for own, outer in zip(x.split(step), slope.split(step), strict=True):
        patches = F.unfold(own.to(wide), kernel, dilation, padding, stride)
        patches = patches.view(len(own), groups, -1, patches.shape[2])
        grouped = outer.to(wide).view(len(own), groups, -1, outer.shape[2])
        found.append((grouped @ patches.mT).flatten(1, 2))
    return torch.cat(found)
