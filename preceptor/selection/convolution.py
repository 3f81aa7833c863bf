"""Convolutions whose backward pass makes or sketches each example's gradient of the filters.

Patches of the input stand in for a linear layer's rows. P_in is applied as one more convolution,
with random signs for filters, in the backward pass: what a convolution is given is kept by the
activation before it anyway. Where groups are convolved apart, or the filters' gradient is cheaper
to make than to sketch, each example's own is made.

Dimension key: b examples, c channels, o outputs, *s and *l places of in- and output.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.errors import ModelError
from preceptor.selection.entry import Entry
from preceptor.selection.filters import gradients, is_sketched, sketched
from preceptor.selection.first_order import first_order
from preceptor.selection.geometry import Geometry
from preceptor.selection.ledger import Ledger


def laid(
    ledger: Ledger, x: Tensor, weight: Tensor, geometry: tuple[Any, Any, Any, int]
) -> Geometry:
    """`geometry` in numbers: stride, padding, dilation, groups as torch is given them.

    Raises:
        ModelError: padding differs at both ends, or the first axis is not the examples'.
    """
    try:
        found = _geometry(weight.shape[2:], *geometry)
    except TypeError:  # Lists.
        said = (tuple(each) if isinstance(each, list) else each for each in geometry)
        found = _geometry(weight.shape[2:], *said)
    if found is None or x.dim() != weight.dim() or x.shape[0] != ledger.examples:
        raise ModelError(
            f"a convolution over {weight.dim() - 2} axes with padding {geometry[1]!r} met a tensor "
            f"of shape {list(x.shape)} in a batch of {ledger.examples} examples",
            "padding is as wide at both ends, and the first axis is the examples'",
            "Use exact features for this model (kind: exact, projection: counts).",
        )
    return found._replace(is_turned=True) if ledger.channels.are_turned(x, weight) else found


def convolution(
    ledger: Ledger,
    x: Float[Tensor, "b c *s"],
    weight: tuple[Tensor, Entry | None],
    bias: tuple[Tensor | None, Entry | None],
    geometry: Geometry,
) -> Float[Tensor, "b o *l"]:
    """A convolution."""
    found = _Convolution.apply(ledger.anchor, x, (weight, bias, geometry))
    assert isinstance(found, Tensor)
    return found


@lru_cache(maxsize=1024)
def _geometry(
    kernel: tuple[int, ...], stride: Any, padding: Any, dilation: Any, groups: int
) -> Geometry | None:
    """What is said, in numbers; None where both ends are padded differently."""
    axes = len(kernel)
    dilations = _each(dilation, axes)
    paddings = _padding(padding, kernel, dilations)
    if paddings is None:
        return None
    is_pointwise = {*kernel} == {1} and not any(paddings) and groups == 1
    return Geometry(_each(stride, axes), paddings, dilations, groups, is_pointwise)


def _padding(said: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...] | None:
    """Padding in numbers, one an axis; None where both ends are padded differently."""
    if said == "same":
        both = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        return None if any(each % 2 for each in both) else tuple(each // 2 for each in both)
    return _each(0 if said == "valid" else said, len(kernel))


def _each(value: Any, axes: int) -> tuple[int, ...]:
    if not isinstance(value, tuple | list):
        return (value,) * axes
    return tuple(value) * (axes // len(value))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        call: tuple[tuple[Tensor, Entry | None], tuple[Tensor | None, Entry | None], Geometry],
    ) -> Tensor:
        weight, bias, geometry = call
        entry = weight[1]
        ctx.save_for_backward(None if entry is None else x, weight[0])
        ctx.entries, ctx.geometry, ctx.shape = (entry, bias[1]), geometry, x.shape
        return geometry.product(x, weight[0], bias[0])

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, weight) = outer, ctx.saved_tensors
        (entry, of_bias), geometry = ctx.entries, ctx.geometry
        if entry is not None:
            _add(entry, slope, x, weight, geometry)
        if of_bias is not None:
            of_bias.add_flat(slope.flatten(2).sum(dim=2, dtype=of_bias.ledger.dtype))
        if not ctx.needs_input_grad[1]:
            return None, None, None
        # Its shape alone is read; but what is laid out as it is need not be copied.
        shape = slope.new_empty(1).expand(ctx.shape) if x is None else x.to(slope.dtype)
        back = geometry.back(slope, shape, weight.to(slope.dtype), to_input=True)
        return None, back, None


def _add(entry: Entry, slope: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> None:
    """A call of its own: what it makes is gone before the input's gradient is made."""
    if is_sketched(entry):
        entry.add_parts(sketched(entry, slope, x, geometry))
    else:
        entry.add_matrices(gradients(slope, x, weight, geometry))
