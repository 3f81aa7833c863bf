"""How a convolution lies over its input, and the convolution itself, forwards and back.

Dimension key: b examples, c channels, o outputs, *s and *l places of in- and output.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.ops.products import product
from preceptor.selection.places import channels_last

_BACKWARD = torch.ops.aten.convolution_backward.default
_FEW = 16
"""Places below which a convolution is faster than a product of matrices for each example."""


class Geometry(NamedTuple):
    """How a convolution lies over its input, one number an axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    is_pointwise: bool = False  # Whether each place is mapped by itself: a linear layer, faster.
    is_turned: bool = False  # Whether what it gives is laid with channels last, unlike its input.

    def read(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *l"]:
        """The places that are read where each is mapped by itself."""
        if {*self.stride} == {1}:
            return x
        for axis, step in enumerate(self.stride, 2):
            x = x if step == 1 else x[(slice(None),) * axis + (slice(None, None, step),)]
        return x

    def is_multiplied(self, places: Tensor) -> bool:
        """Whether a product of matrices is faster, for what has an output's `places`."""
        is_few = self.is_pointwise and places.shape[2:].numel() < _FEW
        return self.is_pointwise and not is_few and places.device.type == "cpu"

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        read = self.read(x) if self.is_pointwise else x
        if self.is_multiplied(read):
            return _multiplied(read, weight.flatten(1), bias)
        if self.is_turned:
            weight = weight.contiguous(memory_format=torch.channels_last)
        plain = (self.stride, self.padding, self.dilation, False, [0] * len(self.stride))
        if not _is_turned_back(x, weight):
            return torch.convolution(x, weight, bias, *plain, self.groups)
        found = torch.convolution(x.contiguous(), weight, bias, *plain, self.groups)
        return found.contiguous(memory_format=torch.channels_last)

    def back(self, slope: Tensor, x: Tensor, weight: Tensor, *, to_input: bool) -> Tensor:
        """The gradient of the input, or of the weight: of either, the shape alone is read."""
        if to_input and self.is_multiplied(slope):
            found = _multiplied(slope, weight.flatten(1).T, None)
            if found.shape == x.shape:
                return found
            last = torch.channels_last if channels_last(found) else torch.contiguous_format
            back = torch.empty(x.shape, dtype=found.dtype, device=found.device, memory_format=last)
            self.read(back.zero_()).copy_(found)
            return back
        plain = (self.stride, self.padding, self.dilation, False, [0] * len(self.stride))
        wanted = [to_input, not to_input, False]
        if not (to_input and _is_turned_back(slope, weight)):
            found = _BACKWARD(slope, x, weight, None, *plain, self.groups, wanted)
            return found[0 if to_input else 1]
        if self._is_tiled(slope, x, weight):
            return _by_tile(slope, weight)
        slope, x = slope.contiguous(), slope.new_empty(1).expand(x.shape)
        found = _BACKWARD(slope, x, weight, None, *plain, self.groups, wanted)
        return found[0].contiguous(memory_format=torch.channels_last)

    def _is_tiled(self, slope: Tensor, x: Tensor, weight: Tensor) -> bool:
        """Whether every place of an image is read once."""
        kernel = weight.shape[2:]
        is_plain = {*self.padding} == {0} and {*self.dilation} == {self.groups} == {1}
        read = [places * width for places, width in zip(slope.shape[2:], kernel, strict=True)]
        return is_plain and kernel == self.stride and read == list(x.shape[2:])


def _by_tile(
    slope: Float[Tensor, "b o h w"], weight: Float[Tensor, "o c k l"]
) -> Float[Tensor, "b c hk wl"]:
    """The gradient of an image each tile of which is mapped by itself, channels last."""
    filters = weight.permute(2, 3, 1, 0)
    found = product(slope.permute(0, 2, 3, 1), filters.flatten(0, 2))
    tiles = found.unflatten(3, filters.shape[:3]).transpose(2, 3)
    return tiles.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _multiplied(
    x: Float[Tensor, "b c *l"], weight: Float[Tensor, "o c"], bias: Tensor | None
) -> Float[Tensor, "b o *l"]:
    """A convolution of each place by itself; what it gives lies in memory as x does."""
    if x.stride(1) == 1:
        found = product(x.movedim(1, -1).flatten(1, -2), weight, bias).mT
    elif bias is None:
        found = weight.expand(len(x), -1, -1) @ x.flatten(2)
    else:
        found = torch.baddbmm(bias.view(1, -1, 1), weight.expand(len(x), -1, -1), x.flatten(2))
    # Not as a view: what it gives may be written to.
    return torch.ops.aten._unsafe_view.default(found, [*found.shape[:2], *x.shape[2:]])


def _is_turned_back(x: Tensor, weight: Tensor) -> bool:
    """Whether it takes less to turn an image's channels back than a filter's to the last."""
    return weight.numel() > x.numel() and weight.shape[2:].numel() > 1 and channels_last(x)
