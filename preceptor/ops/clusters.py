"""Items that belong together: several questions about one passage share its difficulty.

Dimension key: s seeds, n items, c clusters.
"""

from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from preceptor.errors import DataError


def numbered(names: Shaped[Any, " n"]) -> Int[np.ndarray, " n"]:
    """A number from 0 for each name: which cluster an item belongs to."""
    return np.unique(np.asarray(names), return_inverse=True)[1].reshape(-1)


def clustered_error(scores: Shaped[Any, " n"], clusters: Shaped[Any, " n"]) -> float:
    """The standard error of a mean whose items come in clusters.

    sqrt(sum over clusters of (sum over their items of score - mean)^2) / n: K.-Y. Liang and S.
    Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 1986. With each
    item alone it is the usual one; with all in few clusters it is too small, as any is.

    >>> clustered_error(np.array([0.0, 0.0, 1.0, 1.0]), np.array([7, 7, 8, 8]))
    0.3535533905932738
    """
    scores = np.asarray(scores, dtype=np.float64)
    if len(scores) < 2:
        raise DataError("one score was given", "it has no spread", "Give more items.")
    sums = np.bincount(numbered(clusters), scores - scores.mean())
    return float(np.sqrt((sums**2).sum()) / len(scores))
