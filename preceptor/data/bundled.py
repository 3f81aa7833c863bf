"""The small tables that scikit-learn carries, each row a small square image: see `squares`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from preceptor.data.raw import RawData, RawSet
from preceptor.data.squares import scaled, square_images

_ABOVE = ("below the median", "above the median")


def read_bundled(name: str) -> RawData:
    """One of `BUNDLED`; every column is brought to 0 to 1 by its range over all rows."""
    found: Any = _loader(BUNDLED[name])()
    target = np.asarray(found.target)
    classes = [str(each) for each in getattr(found, "target_names", ())]
    if not classes:  # A number to be told is told as one of two halves.
        target, classes = (target > np.median(target)).astype(np.int64), list(_ABOVE)
    rows = scaled(np.asarray(found.data, dtype=np.float64))
    labels = torch.from_numpy(target.astype(np.int64))
    whole = RawSet(square_images(rows), labels, tuple(classes), "train")
    return RawData(whole, None, None, f"{name}, from scikit-learn")


BUNDLED = {
    "iris": "load_iris",
    "wine": "load_wine",
    "breast_cancer": "load_breast_cancer",
    "diabetes": "load_diabetes",
}
"""Names of tables: three kinds of iris (150 rows), three wines (178), two kinds of tumour (569),
and whether diabetes got worse by more than the median (442)."""


def _loader(name: str) -> Callable[[], Any]:
    from sklearn import datasets  # late: it takes a second

    return getattr(datasets, name)
