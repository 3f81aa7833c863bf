"""Convolutions: patches of the input stand in for a linear layer's rows.

P_in is applied as one more convolution, with random signs for filters, in the backward pass: what
a convolution is given is kept by the activation before it anyway. Where groups are convolved apart,
or the filters' gradient is cheaper to make than to sketch, each example's own is made: one
convolution in which every example is a group.

Dimension key: b examples, c channels, o outputs, *s and *l places of in- and output, p numbers
a patch, k of a sketched one, g groups.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.errors import ModelError
from preceptor.ops.products import product
from preceptor.selection.entry import AT_ONCE, Entry
from preceptor.selection.ledger import Ledger

_BACKWARD = torch.ops.aten.convolution_backward.default
_CACHED = 1 << 20
"""Numbers that are slid over at once: more would leave the cache between two reads."""
_LARGE = 1 << 16
"""Numbers of an example from which on a call of its own is not what takes the time."""
_FEW = 16
"""Places below which a convolution is faster than a product of matrices for each example."""


class Geometry(NamedTuple):
    """How a convolution lies over its input, one number an axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def is_pointwise(self, weight: Tensor) -> bool:
        """Whether each place is mapped by itself: a linear layer, which multiplies faster."""
        return {*weight.shape[2:]} == {1} and not any(self.padding) and self.groups == 1

    def read(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *l"]:
        """The places that are read where each is mapped by itself."""
        for axis, step in enumerate(self.stride, 2):
            x = x if step == 1 else x[(slice(None),) * axis + (slice(None, None, step),)]
        return x

    def is_multiplied(self, places: Tensor, weight: Tensor) -> bool:
        """Whether a product of matrices is faster, for what has an output's `places`."""
        few = places.shape[2:].numel() < _FEW
        return not few and places.device.type == "cpu" and self.is_pointwise(weight)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        read = self.read(x) if self.is_pointwise(weight) else x
        if self.is_multiplied(read, weight):
            return _multiplied(read, weight.flatten(1), bias)
        plain = (self.stride, self.padding, self.dilation, False, [0] * len(self.stride))
        return torch.convolution(x, weight, bias, *plain, self.groups)

    def back(self, slope: Tensor, x: Tensor, weight: Tensor, *, to_input: bool) -> Tensor:
        """The gradient of the input, or of the weight: of either, the shape alone is read."""
        if to_input and self.is_multiplied(slope, weight):
            found = _multiplied(slope, weight.flatten(1).T, None)
            if found.shape == x.shape:
                return found
            back = found.new_zeros(x.shape)
            self.read(back).copy_(found)
            return back
        plain = (self.stride, self.padding, self.dilation, False, [0] * len(self.stride))
        wanted = [to_input, not to_input, False]
        found = _BACKWARD(slope, x, weight, None, *plain, self.groups, wanted)
        return found[0 if to_input else 1]


def laid(
    ledger: Ledger, x: Tensor, weight: Tensor, geometry: tuple[Any, Any, Any, int]
) -> Geometry:
    """`geometry` in numbers: stride, padding, dilation, groups as torch is given them.

    Raises:
        ModelError: padding differs at both ends, or the first axis is not the examples'.
    """
    axes = weight.dim() - 2
    stride, dilation = _each(geometry[0], axes), _each(geometry[2], axes)
    padding = _padding(geometry[1], weight.shape[2:], dilation)
    if padding is None or x.dim() != axes + 2 or len(x) != ledger.examples:
        raise ModelError(
            f"a convolution over {axes} axes with padding {geometry[1]!r} met a tensor of shape "
            f"{list(x.shape)} in a batch of {ledger.examples} examples",
            "padding is as wide at both ends, and the first axis is the examples'",
            "Use exact features for this model (kind: exact, projection: counts).",
        )
    return Geometry(stride, padding, dilation, geometry[3])


def convolution(
    ledger: Ledger,
    x: Float[Tensor, "b c *s"],
    weight: tuple[Tensor, Entry | None],
    bias: tuple[Tensor | None, Entry | None],
    geometry: Geometry,
) -> Float[Tensor, "b o *l"]:
    """A convolution."""
    found = _Convolution.apply(ledger.anchor, x, weight, bias, geometry)
    assert isinstance(found, Tensor)
    return found


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


def _multiplied(
    x: Float[Tensor, "b c *l"], weight: Float[Tensor, "o c"], bias: Tensor | None
) -> Float[Tensor, "b o *l"]:
    """A convolution of each place by itself; what it gives lies in memory as x does."""
    places = x.flatten(2)
    if x.stride(1) == 1:
        found = product(places.mT, weight, bias).mT
    elif bias is None:
        found = weight.expand(len(x), -1, -1) @ places
    else:
        found = torch.baddbmm(bias.view(1, -1, 1), weight.expand(len(x), -1, -1), places)
    # Not as a view: what it gives may be written to.
    return torch.ops.aten._unsafe_view.default(found, [*found.shape[:2], *x.shape[2:]])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        weight: tuple[Tensor, Entry | None],
        bias: tuple[Tensor | None, Entry | None],
        geometry: Geometry,
    ) -> Tensor:
        entry = weight[1]
        ctx.save_for_backward(None if entry is None else x, weight[0])
        ctx.entries, ctx.geometry, ctx.shape = (entry, bias[1]), geometry, x.shape
        return geometry.product(x, weight[0], bias[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, weight) = outer, ctx.saved_tensors
        (entry, of_bias), geometry = ctx.entries, ctx.geometry
        if entry is not None:
            _add(entry, slope, x, weight, geometry)
        if of_bias is not None:
            of_bias.add_flat(slope.flatten(2).sum(dim=2, dtype=of_bias.ledger.dtype))
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None
        # Its shape alone is read; but what is laid out as it is need not be copied.
        shape = slope.new_empty(1).expand(ctx.shape) if x is None else x.to(slope.dtype)
        back = geometry.back(slope, shape, weight.to(slope.dtype), to_input=True)
        return None, back, None, None, None


def _add(entry: Entry, slope: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> None:
    """A call of its own: what it makes is gone before the input's gradient is made."""
    if is_sketched(entry):
        entry.add_parts(sketched(entry, slope, x, geometry))
    else:
        entry.add_matrices(gradients(slope, x, weight, geometry))


def sketched(
    entry: Entry, slope: Tensor, x: Tensor, geometry: Geometry
) -> Iterator[tuple[Float[Tensor, "some g l o"], Float[Tensor, "some g l k"]]]:
    """The slopes and the sketched patch of each group's places, some examples at a time."""
    filters = entry.columns.turned.view(-1, *entry.parameter.shape[1:]).to(x.dtype)
    alone, groups = geometry._replace(groups=1), geometry.groups
    numbers = max(groups * slope[0, 0].numel(), slope.shape[1]) * entry.columns.k
    step = max(1, AT_ONCE // numbers)
    for slopes, inputs in zip(slope.split(step), x.split(step), strict=True):
        apart = inputs.unflatten(1, (groups, -1)).flatten(0, 1) if groups > 1 else inputs
        given = alone.product(apart, filters, None).flatten(2).mT
        yield slopes.flatten(2).unflatten(1, (groups, -1)).mT, given.unflatten(0, (-1, groups))


def is_sketched(entry: Entry) -> bool:
    """Whether patches are sketched, and the filters' gradients are not made."""
    return entry.columns.table is not None


def gradients(
    slope: Float[Tensor, "b o *l"], x: Float[Tensor, "b c *s"], weight: Tensor, geometry: Geometry
) -> Iterator[Float[Tensor, "some o p"]]:
    """Each example's gradient of the filters, some examples at a time."""
    wide = torch.promote_types(slope.dtype, torch.float32)
    step, found = max(1, AT_ONCE // weight.numel()), _by_group
    if geometry.is_pointwise(weight):
        found = _by_place
    elif geometry.groups == len(weight) == x.shape[1]:
        step = min(step, max(1, _CACHED // x[0].numel()))
        if not _lie_last(slope, x, weight):
            found = _by_channel
        elif x[0].numel() > _LARGE:
            step = 1
        else:
            found = _beside
    for slopes, inputs in zip(slope.split(step), x.split(step), strict=True):
        yield found(slopes.to(wide), inputs.to(wide), weight, geometry)


def _lie_last(slope: Tensor, x: Tensor, weight: Tensor) -> bool:
    """Whether channels stand beside one another in memory, for whom few filters are quick."""
    if x.dim() != 4 or x.is_contiguous() or weight[0].numel() > 9:
        return False
    # Torch's own way has no fast code where filters are larger than what they slide over.
    is_small = any(size < width for size, width in zip(x.shape[2:], weight.shape[2:], strict=True))
    last = (each.is_contiguous(memory_format=torch.channels_last) for each in (slope, x))
    return not is_small and all(last)


def _beside(
    slope: Float[Tensor, "b c *l"], x: Float[Tensor, "b c *s"], weight: Tensor, geometry: Geometry
) -> Float[Tensor, "b c p"]:
    """Each example's gradient where channels lie last: those of all examples beside one another."""
    apart = geometry._replace(groups=len(x) * len(weight))
    shape = slope.new_empty(1).expand(apart.groups, *weight.shape[1:])
    slope, x = (
        each.permute(2, 3, 0, 1).flatten(2).unsqueeze(0).permute(0, 3, 1, 2) for each in (slope, x)
    )
    return apart.back(slope, x, shape, to_input=False).reshape(-1, *weight.flatten(1).shape)


def _by_place(
    slope: Float[Tensor, "b o *l"], x: Float[Tensor, "b c *s"], weight: Tensor, geometry: Geometry
) -> Float[Tensor, "b o c"]:
    """Each example's gradient where every place is mapped by itself."""
    del weight
    return slope.flatten(2) @ geometry.read(x).flatten(2).mT


def _by_group(
    slope: Float[Tensor, "b o *l"], x: Float[Tensor, "b c *s"], weight: Tensor, geometry: Geometry
) -> Float[Tensor, "b o p"]:
    """Each example's gradient, of any convolution: every example is a group."""
    count = len(x)
    apart = geometry._replace(groups=count * geometry.groups)
    shape = slope.new_empty(1).expand(count * len(weight), *weight.shape[1:])
    if count > 1:
        slope, x = (each.flatten(0, 1).unsqueeze(0) for each in (slope, x))
    return apart.back(slope, x, shape, to_input=False).reshape(count, len(weight), -1)


def _by_channel(
    slope: Float[Tensor, "b c *l"], x: Float[Tensor, "b c *s"], weight: Tensor, geometry: Geometry
) -> Float[Tensor, "b c p"]:
    """Each example's gradient where each channel has one filter of its own.

    What the convolution gave slopes for is slid over what it was given: a convolution once more,
    with strides and dilations exchanged, which is up to 20 times faster than its gradient.
    """
    exchanged = Geometry(geometry.dilation, geometry.padding, geometry.stride, len(x) * len(weight))
    given, sliding = x.flatten(0, 1).unsqueeze(0), slope.flatten(0, 1).unsqueeze(1)
    found = exchanged.product(given, sliding, None)
    for axis, size in enumerate(weight.shape[2:], 2):
        found = found.narrow(axis, 0, size)  # A stride may leave places at the end unread.
    return found.reshape(len(x), len(weight), -1)
