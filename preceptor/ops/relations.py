"""How the examples of a batch lie to one another: distances, angles, similarities.

All compute in float32 or better and stay finite, with finite gradients, where rows coincide or
vanish: what has no direction counts as zero and gets no gradient. Rows coincide where they differ
by less than a millionth of the batch's spread, so that scale is never told from rounding.

Dimension key: *n positions, m numbers, b examples, a anchors, d width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from preceptor.types import at_least_float32

_COINCIDE = 1e-6
"""The square root of the 1e-12 that published code clamps squared distances to."""


def unit(vectors: Float[Tensor, "*n d"], floor: float | Tensor = 1e-12) -> Float[Tensor, "*n d"]:
    """Each vector divided by its Euclidean length; zero where that is at most `floor`.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    vectors = at_least_float32(vectors)
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    long = lengths > floor
    # The inner `where` keeps the unused branch's gradient finite: 0 * inf would be NaN.
    return torch.where(long, vectors / torch.where(long, lengths, torch.ones_like(lengths)), 0.0)


def varies(numbers: Float[Tensor, "*n m"]) -> Bool[Tensor, "*n"]:
    """Whether the numbers along the last axis differ by more than rounding.

    >>> varies(torch.tensor([[0.1, 0.1, 0.1 + 1e-8], [0.1, 0.1, 0.2]]))
    tensor([False,  True])
    """
    spread = numbers.amax(dim=-1) - numbers.amin(dim=-1)
    return spread > 4 * torch.finfo(numbers.dtype).eps * numbers.abs().amax(dim=-1)


def distances(rows: Float[Tensor, "b d"]) -> Float[Tensor, "b b"]:
    """Euclidean distances between all rows, divided by the mean of the positive ones.

    Differences are taken before squaring: expanding the square loses near neighbours to rounding.
    All zeros where no two rows differ.

    >>> distances(torch.tensor([[0.0], [1.0], [3.0]]))
    tensor([[0.0000, 0.5000, 1.5000],
            [0.5000, 0.0000, 1.0000],
            [1.5000, 1.0000, 0.0000]])
    """
    rows = at_least_float32(rows)
    found = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    positive = found > _COINCIDE * _spread(rows)
    found = torch.where(positive, found, 0.0)
    mean = found.sum() / positive.sum().clamp_min(1)
    return found / torch.where(mean > 0, mean, torch.ones_like(mean))


def angles(anchors: Float[Tensor, "a d"], rows: Float[Tensor, "b d"]) -> Float[Tensor, "a b b"]:
    """The cosine, at each anchor, of the angle between the ways to any two rows.

    Zero where a row coincides with the anchor. Takes a * b * (b + d) numbers of memory.

    >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    >>> angles(corner[:1], corner)[0, 1]
    tensor([0.0000, 1.0000, 0.7071])
    """
    rows, anchors = at_least_float32(rows), at_least_float32(anchors)
    ways = unit(rows.unsqueeze(0) - anchors.unsqueeze(1), _COINCIDE * _spread(rows))  # [a, b, d]
    return ways @ ways.transpose(1, 2)


def similarities(rows: Float[Tensor, "b d"]) -> Float[Tensor, "b b"]:
    """Inner products between all rows, each row of the result divided by its Euclidean length.

    >>> similarities(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    tensor([[0.3162, 0.9487],
            [0.1191, 0.9929]])
    """
    rows = at_least_float32(rows)
    # One factor for all rows cancels; without it the squares of small features vanish.
    rows = rows / _largest(rows).clamp_min(torch.finfo(rows.dtype).tiny)
    return unit(rows @ rows.T)


def _spread(rows: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    return _largest(rows - rows.sum(dim=0) / max(1, len(rows)))


def _largest(numbers: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    return torch.cat((numbers.detach().abs().flatten(), numbers.new_zeros(1))).amax()
