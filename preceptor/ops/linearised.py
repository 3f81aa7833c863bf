"""Any measure as a mean over items, so that seeds and items can be resampled as for means.

A kappa, an F1 or a calibration error is no mean over items. What one item adds to it is its
influence: how the measure grows with the item's weight. The column measure + influence has the
measure as its mean, and near it the draws of the column's mean are those of the measure (the
infinitesimal jackknife of Jaeckel, 1972; B. Efron and C. Stein, "The jackknife estimate of
variance", Annals of Statistics 1981). One backward pass gives every item's.

Dimension key: n items.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Weighted = Callable[[Float[Tensor, " n"]], Float[Tensor, ""]]
"""A measure of weighted items, in float64; all weights twice as large change nothing."""


def linearised(measure: Weighted, items: int) -> Float[np.ndarray, " n"]:
    """A column whose mean is the measure of items of weight 1; NaN where the measure is.

    >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    >>> linearised(lambda w: (w @ x) / w.sum(), 3)
    array([1., 2., 6.])
    """
    weights = torch.ones(items, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        found = measure(weights)
        if not torch.isfinite(found):
            return np.full(items, np.nan)
        (influence,) = torch.autograd.grad(found, weights)
    return (found.detach() + items * influence).numpy()
