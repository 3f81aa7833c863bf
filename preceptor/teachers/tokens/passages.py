"""Which rows of text a batch holds, found position by position: padding and packing say nothing.

Dimension key: b examples, t tokens, n positions, p passages.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.counter import splitmix64
from preceptor.errors import DataError, NeedsError
from preceptor.types import Batch


@final
@dataclass(frozen=True)
class Passages:
    """The scored tokens of each row of text that a batch holds, in the batch's order.

    Args:
        index: where the positions stand in the flattened batch [n], passage by passage.
        rows: each passage's row of text [p].
        counts: how many scored tokens it has [p].
        hashes: 32 bits of its tokens and their order [p].
    """

    index: Int[Tensor, " n"]
    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    hashes: NDArray[np.uint32]

    @classmethod
    def of(cls, batch: Batch) -> "Passages":
        """All that the batch scores.

        Raises:
            NeedsError: the batch does not say which row each position is of, or scores text that
                is no row of the data.
            DataError: a row's tokens are not all there, or not in order.
        """
        scored = batch.mask("all").cpu()
        row, offset = (_keys(batch, name, scored) for name in ("row", "offset"))
        _check_named(row)
        index = scored.flatten().nonzero().squeeze(1)
        begins = offset == 0
        begins[:1] = True
        first = np.flatnonzero(begins)
        counts = np.diff(np.append(first, len(row)))
        within = np.arange(len(row)) - np.repeat(first, counts)
        broken = (offset != within) | (row != np.repeat(row[first], counts))
        if broken.any():
            names = np.unique(row[broken])[:5].tolist()
            raise DataError(
                f"the scored tokens of rows {names} are not there from first to last",
                "a cache keeps and finds rows whole",
                "Cut rows when they are read (`max_length`), not afterwards.",
            )
        labels = batch.labels.cpu()[scored].numpy()
        return cls(index, row[first], counts, _hashes(labels, offset, first))

    @classmethod
    def stored(
        cls, rows: NDArray[np.int64], counts: NDArray[np.int64], hashes: NDArray[np.uint32]
    ) -> "Passages":
        """Passages that lie one after another in no batch."""
        return cls(torch.arange(int(counts.sum())), rows, counts, hashes)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Each position's place in its passage [n]."""
        first = np.cumsum(self.counts) - self.counts
        return np.arange(len(self.index)) - np.repeat(first, self.counts)

    def picked(self, which: NDArray[np.bool_]) -> "Passages":
        """Some passages."""
        there = torch.from_numpy(np.repeat(which, self.counts))
        return Passages(self.index[there], self.rows[which], self.counts[which], self.hashes[which])


def _keys(batch: Batch, name: str, scored: Bool[Tensor, "b t"]) -> NDArray[np.int64]:
    if name not in batch.extra:
        raise NeedsError(
            "a token cache was asked about a batch",
            f"the batch does not say the {name} of its positions",
            "Use batches of text, whose `extra` has row and offset.",
        )
    return batch.extra[name].cpu()[scored].numpy()


def _check_named(row: NDArray[np.int64]) -> None:
    unnamed = int((row < 0).sum())
    if unnamed:
        raise NeedsError(
            f"a token cache was asked about {unnamed} of {len(row)} tokens that are no row's",
            "they were written while training, so no cache holds them",
            "Let a live teacher answer for them (`Routed`), or learn from the data alone.",
        )


def _hashes(
    labels: NDArray[np.int64], offset: NDArray[np.int64], first: NDArray[np.int64]
) -> NDArray[np.uint32]:
    if not len(first):
        return np.zeros(0, np.uint32)
    mixed = splitmix64(splitmix64(labels.astype(np.uint64)) ^ offset.astype(np.uint64))
    return (np.add.reduceat(mixed, first) >> np.uint64(32)).astype(np.uint32)
