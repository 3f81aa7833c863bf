"""Many short arrays of one kind in one flat array: four bytes a token, and no Python objects."""

from collections.abc import Iterable
from typing import final

import numpy as np
from numpy.typing import DTypeLike, NDArray


@final
class Ragged:
    """Arrays of different lengths, one after the other.

    Args:
        values: all of them, flat.
        offsets: where each begins, and at the end where the last one stops [n + 1].
    """

    def __init__(self, values: NDArray, offsets: NDArray[np.int64]) -> None:
        self.values, self.offsets = values, offsets

    @classmethod
    def of(cls, arrays: Iterable[Iterable[int]], dtype: DTypeLike) -> "Ragged":
        """From arrays, each taken once."""
        parts = [np.asarray(array, dtype=dtype) for array in arrays]
        lengths = np.fromiter((len(part) for part in parts), np.int64, len(parts))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return cls(np.concatenate(parts) if parts else np.empty(0, dtype), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How long each is [n]."""
        return np.diff(self.offsets)
