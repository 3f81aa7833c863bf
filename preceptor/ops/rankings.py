"""How alike two models order the classes, beyond the one they put first.

All of it is numpy in float64; one number an item, so that items can be resampled afterwards.

Dimension key: *s seeds, n items, v classes, k places.
"""

import numpy as np
from jaxtyping import Float, Int

from preceptor.ops.correlations import kendall

_Scores = Float[np.ndarray, "*s n v"]


def top(scores: _Scores, k: int) -> Int[np.ndarray, "*s n k"]:
    """The k classes with the largest scores, largest first; ties in the order of the classes."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def jaccard(first: _Scores, second: Float[np.ndarray, "*#s n v"], k: int) -> np.ndarray:
    """Of the classes in either's first k, the share in both: [*s, n], from 0 to 1.

    >>> jaccard(np.array([[3.0, 2.0, 1.0]]), np.array([[3.0, 1.0, 2.0]]), 2).round(3)
    array([0.333])
    """
    return jaccard_of_firsts(top(first, k), top(second, k))


def jaccard_of_firsts(
    first: Int[np.ndarray, "*s n k"], second: Int[np.ndarray, "*#s n k"]
) -> np.ndarray:
    """`jaccard`, where each side's first k classes are known, the likeliest first."""
    shared = _overlap(first, second)[..., -1]
    return shared / (2 * first.shape[-1] - shared)


def rank_biased_overlap(
    first: _Scores, second: Float[np.ndarray, "*#s n v"], k: int, persistence: float = 0.9
) -> np.ndarray:
    """The overlap of the two's first d classes, meaned over d with weights that fall: [*s, n].

    William Webber, Alistair Moffat and Justin Zobel, "A similarity measure for indefinite
    rankings", TOIS 2010, equation 30: extrapolated beyond k, 1 for one order and 0 where none of
    the first k is shared. A reader who looks at a place looks at the next with `persistence`.

    >>> rank_biased_overlap(np.array([[3.0, 2.0, 1.0]]), np.array([[3.0, 2.0, 1.0]]), 3)
    array([1.])
    """
    return overlap_of_firsts(top(first, k), top(second, k), persistence)


def overlap_of_firsts(
    first: Int[np.ndarray, "*s n k"], second: Int[np.ndarray, "*#s n k"], persistence: float = 0.9
) -> np.ndarray:
    """`rank_biased_overlap`, where each side's first k classes are known, the likeliest first."""
    shared = _overlap(first, second)
    depth = np.arange(1, shared.shape[-1] + 1)
    weights = (1 - persistence) * persistence ** (depth - 1.0)
    tail = persistence ** depth[-1] * shared[..., -1] / depth[-1]
    return (shared / depth) @ weights + tail


def kendall_of_top(reference: _Scores, other: Float[np.ndarray, "*#s n v"], k: int) -> np.ndarray:
    """Kendall's tau-b over the reference's first k classes: [*s, n]; 0 where one side is all ties.

    >>> kendall_of_top(np.array([[3.0, 2.0, 1.0]]), np.array([[0.0, 5.0, 9.0]]), 2)
    array([-1.])
    """
    reference, other = np.broadcast_arrays(reference, other)
    index = top(reference, k)
    ours, theirs = (np.take_along_axis(side, index, axis=-1) for side in (reference, other))
    return order_of_firsts(ours, theirs)


def order_of_firsts(
    ours: Float[np.ndarray, "*s n k"], theirs: Float[np.ndarray, "*s n k"]
) -> np.ndarray:
    """`kendall_of_top`, where two sides' scores of the reference's first k classes are known."""
    return np.nan_to_num(np.asarray(kendall(ours, theirs)))


def _overlap(
    first: Int[np.ndarray, "*s n k"], second: Int[np.ndarray, "*#s n k"]
) -> Float[np.ndarray, "*s n k"]:
    """How many classes the two's first d share, for d from 1 to k."""
    alike = first[..., :, None] == second[..., None, :]
    within = alike.cumsum(axis=-2).cumsum(axis=-1)  # At i, j: of the first i + 1 and j + 1.
    return np.diagonal(within, axis1=-2, axis2=-1).astype(np.float64)
