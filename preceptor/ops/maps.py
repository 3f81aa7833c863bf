"""Feature maps: attention, flow, statistics over space, and pooling to a common size.

All reduce within one example, and compute in float32 or better.

Dimension key: b examples, c and d channels, h and w height and width, n = h * w positions.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from preceptor.errors import ModelError
from preceptor.types import at_least_float32

Size = tuple[int, int]
"""Height and width."""

_TINIEST_VARIANCE = 1e-12


def attention(features: Float[Tensor, "b c h w"], exponent: int | float) -> Float[Tensor, "b n"]:
    """Where a map is active: mean over channels of |F|^p, scaled to unit length over space.

    A map of zeros stays zero.

    >>> attention(torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]]), exponent=1)
    tensor([[0.8321, 0.5547]])
    """
    features = at_least_float32(features)
    # An odd power of a signed map would let activations cancel.
    powers = features.square() if exponent == 2 else features.abs().pow(exponent)
    return F.normalize(powers.mean(dim=1).flatten(1), dim=-1)


def flow(
    entry: Float[Tensor, "b c h w"], leave: Float[Tensor, "b d h w"]
) -> Float[Tensor, "b c d"]:
    """G_ij = sum over space of entry_i * leave_j / (h w): how one map turns into another.

    >>> ones = torch.ones(1, 1, 2, 2)
    >>> flow(ones, 3 * ones)
    tensor([[[3.]]])
    """
    first, second = at_least_float32(entry).flatten(2), at_least_float32(leave).flatten(2)
    return first @ second.mT / first.shape[-1]


def channel_statistics(
    features: Float[Tensor, "b c h w"],
) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Each channel's mean and (population) standard deviation over space.

    >>> mean, deviation = channel_statistics(torch.tensor([[[[1.0, 3.0]]]]))
    >>> mean.item(), deviation.item()
    (2.0, 1.0)
    """
    variance, mean = torch.var_mean(at_least_float32(features), dim=(2, 3), correction=0)
    # A constant channel has no direction in which its deviation grows: the bound makes the
    # gradient zero there instead of infinite.
    return mean, variance.clamp_min(_TINIEST_VARIANCE).sqrt()


def squared_difference(
    student: Float[Tensor, "*shape"], teacher: Float[Tensor, "..."]
) -> Float[Tensor, "*shape"]:
    """(student - teacher)^2, element by element. Raises `ModelError` where the shapes differ."""
    if student.shape != teacher.shape:
        raise ModelError(
            f"a student's {tuple(student.shape)} was compared with a teacher's "
            f"{tuple(teacher.shape)}",
            "the two are subtracted element by element, and nothing is stretched to fit",
            "Give both the size at which the regressors were built, or pair other layers.",
        )
    student = at_least_float32(student)
    # One kernel forwards and one backwards, where a difference and its square take two.
    return F.mse_loss(student, teacher.to(student.dtype), reduction="none")


def pyramid_distance(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    """Mean squared difference of two maps, and of their averages over 4x4, 2x2 and 1x1 cells.

    The levels weigh 1, 1/2, 1/4, 1/8, divided by the sum of those that are there: a level that is
    not smaller than the map itself is left out.
    """
    height, width = student.shape[-2:]
    sizes = [(side, side) for side in (4, 2, 1) if side < height and side <= width]
    distance = squared_difference(student, teacher).flatten(1).mean(dim=1)
    weight = total = 1.0
    for size in sizes:
        weight /= 2
        total += weight
        level = squared_difference(pooled(student, size), pooled(teacher, size))
        distance = distance + weight * level.flatten(1).mean(dim=1)
    return distance / total


def common_size(maps: Sequence[Tensor]) -> Size:
    """The smallest height and the smallest width among maps.

    >>> common_size([torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 3, 3)])
    (3, 2)
    """
    return min(one.shape[-2] for one in maps), min(one.shape[-1] for one in maps)


def pooled(
    features: Float[Tensor, "b c h w"], size: Size, how: Literal["mean", "max"] = "mean"
) -> Float[Tensor, "b c h2 w2"]:
    """A map at a smaller size, each cell the mean or the largest of what it covers.

    >>> pooled(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), (1, 1)).item()
    2.5
    """
    height, width = features.shape[-2:]
    if (height, width) == size:
        return features
    features = at_least_float32(features)
    if height % size[0] == 0 and width % size[1] == 0:
        # Equal windows: the same numbers, with a gradient that is deterministic on GPUs.
        window = (height // size[0], width // size[1])
        return F.avg_pool2d(features, window) if how == "mean" else F.max_pool2d(features, window)
    pool = F.adaptive_avg_pool2d if how == "mean" else F.adaptive_max_pool2d
    return pool(features, size)
