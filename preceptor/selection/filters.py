"""The gradients of a convolution's filters, each example's own, or what stands in for them.

Dimension key: b examples, c channels, o outputs, *s and *l places of in- and output, p numbers
a patch, k of a sketched one, g groups.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.selection.entry import AT_ONCE, Entry
from preceptor.selection.geometry import Geometry
from preceptor.selection.parts import in_parts
from preceptor.selection.places import channels_last

_CACHED = 1 << 20
"""Numbers that are slid over at once: more would leave the cache between two reads."""
_LARGE = 1 << 16
"""Numbers of an example from which on a call of its own is not what takes the time."""
_PAIRS = 256
"""Products of two places each that are soon taken."""
_HELD = 1 << 17
"""Numbers that may be held at once whatever the filters are."""


def sketched(
    entry: Entry, slope: Tensor, x: Tensor, geometry: Geometry
) -> Iterator[tuple[Float[Tensor, "some *g l o"], Float[Tensor, "some *g l k"]]]:
    """The slopes and the sketched patch of each group's places, some examples at a time.

    Where there is one group, it has no axis.
    """
    groups, own = geometry.groups, entry.columns.turned.view(-1, *entry.parameter.shape[1:])
    filters = own.to(x.dtype)
    if groups > 1:
        filters = filters.repeat(groups, *[1] * (x.dim() - 1))
    numbers = max(groups * slope[0, 0].numel(), slope.shape[1]) * entry.columns.k
    # A plain pass holds the filters' gradient here, and hardly more.
    step = max(1, min(AT_ONCE, max(_HELD, entry.parameter.numel())) // numbers)
    for slopes, inputs in in_parts(step, slope, x):
        out, given = slopes.flatten(2), geometry.product(inputs, filters, None).flatten(2)
        if groups > 1:
            out, given = (each.unflatten(1, (groups, -1)) for each in (out, given))
        yield out.mT, given.mT


def is_sketched(entry: Entry) -> bool:
    """Whether patches are sketched, and the filters' gradients are not made."""
    return entry.columns.table is not None


def gradients(
    slope: Float[Tensor, "b o *l"], x: Float[Tensor, "b c *s"], weight: Tensor, geometry: Geometry
) -> Iterator[Float[Tensor, "some o p"]]:
    """Each example's gradient of the filters, some examples at a time."""
    wide = torch.promote_types(slope.dtype, torch.float32)
    step, found = max(1, AT_ONCE // weight.numel()), _by_group
    both = [channels_last(each) for each in (slope, x)]
    most = max(slope[0].numel(), x[0].numel())
    if geometry.is_pointwise:
        found = _by_place
    elif any(both) and most > _LARGE:
        step = 1  # Nothing is laid out anew.
    else:
        step = min(step, max(1, _CACHED // most))
        if geometry.groups == len(weight) == x.shape[1]:
            found = _beside if all(both) and _are_few(x, weight) else _by_channel
    for slopes, inputs in in_parts(step, slope, x):
        yield found(slopes.to(wide), inputs.to(wide), weight, geometry)


def _are_few(x: Tensor, weight: Tensor) -> bool:
    """Whether filters are small, and no larger than what they slide over."""
    sizes = zip(x.shape[2:], weight.shape[2:], strict=True)
    return weight[0].numel() <= 9 and all(size >= width for size, width in sizes)


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
    is_padded = any(n >= size for n, size in zip(geometry.padding, slope.shape[2:], strict=True))
    if is_padded and slope[0, 0].numel() * x[0, 0].numel() <= _PAIRS:
        return _by_pair(slope, x, weight, geometry)  # Torch has no fast code for it then.
    exchanged = Geometry(geometry.dilation, geometry.padding, geometry.stride, len(x) * len(weight))
    given, sliding = x.flatten(0, 1).unsqueeze(0), slope.flatten(0, 1).unsqueeze(1)
    found = exchanged.product(given, sliding, None)
    for axis, size in enumerate(weight.shape[2:], 2):
        found = found.narrow(axis, 0, size)  # A stride may leave places at the end unread.
    return found.reshape(len(x), len(weight), -1)


def _by_pair(
    slope: Float[Tensor, "b c *l"], x: Float[Tensor, "b c *s"], weight: Tensor, geometry: Geometry
) -> Float[Tensor, "b c p"]:
    """The same of few places: the products of each two, to the filter's number that joins them."""
    pairs = slope.flatten(2).unsqueeze(3) * x.flatten(2).unsqueeze(2)
    joins = _joins(geometry, *(tuple(each.shape[2:]) for each in (slope, x, weight)))
    return pairs.flatten(2) @ joins.to(pairs)


@lru_cache(maxsize=64)
def _joins(
    geometry: Geometry, after: tuple[int, ...], before: tuple[int, ...], kernel: tuple[int, ...]
) -> Float[Tensor, "ls p"]:
    """1 where a filter's number joins a place behind it and one before it, or 0."""
    found = torch.ones(1, 1, 1)
    for axis, (n, size, width) in enumerate(zip(after, before, kernel, strict=True)):
        there = torch.arange(n).view(-1, 1, 1) * geometry.stride[axis] - geometry.padding[axis]
        read = there + torch.arange(width) * geometry.dilation[axis]
        own = (read == torch.arange(size).view(-1, 1)).float()
        found = torch.einsum("abc,xyz->axbycz", found, own).flatten(4).flatten(2, 3).flatten(0, 1)
    return found.flatten(0, 1)
