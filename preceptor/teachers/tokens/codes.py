"""Whole numbers as few bits: prefix codes whose lengths are counted on what is to be written.

David A. Huffman. "A method for the construction of minimum-redundancy codes". Proceedings of the
IRE, 1952. Large numbers are a symbol (their first bits and how many follow) and the bits that
follow, so that a table of a few symbols codes any range.

Dimension key: n numbers, c contexts, s symbols.
"""

import heapq
from collections.abc import Sequence
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import StorageError

LONGEST = 12
"""Bits of the longest prefix: tables of 2^12 entries read any of them at once."""

Numbers = NDArray[np.int64]
Words = NDArray[np.uint64]

_U = np.uint64


@final
class IntegerCode:
    """A prefix code for numbers from 0 to `largest`, one for each context.

    Args:
        first: how many of a number's leading bits after the top one are in its symbol; numbers
            below 2^(first + 1) are symbols of their own.
        lengths: bits of each symbol's prefix [c, s], from 1 to 12.
    """

    def __init__(self, first: int, lengths: NDArray[np.uint8]) -> None:
        self.first, self.lengths = first, lengths
        used = np.exp2(-lengths.astype(np.float64)).sum(axis=1)
        if lengths.min() < 1 or lengths.max() > LONGEST or (used != 1).any():
            raise StorageError(
                "the code of a token cache",
                "its lengths belong to no prefix code",
                "Restore manifest.json from a copy, or write the cache again.",
            )
        symbols = np.arange(lengths.shape[1])
        wide = np.maximum(0, (symbols >> first) - 1)
        self._wide = wide
        self._base = (symbols - (wide << first)) << wide

    @classmethod
    def fitted(
        cls, first: int, largest: int, numbers: Numbers, contexts: Numbers, count: int
    ) -> "IntegerCode":
        """The code that suits these numbers best; it can write every other one too.

        Args:
            first: see the class.
            largest: the largest number that can come.
            numbers, contexts: what comes [n], and in which context, 0 to count - 1.
            count: how many contexts there are.
        """
        symbols = int(_symbols(np.array([max(largest, 1)]), first)[0][0]) + 1
        keys = contexts * symbols + _symbols(numbers, first)[0]
        seen = np.bincount(keys, minlength=count * symbols).reshape(count, symbols)
        return cls(first, np.stack([_huffman(each) for each in seen]))

    @classmethod
    def told(cls, first: int, text: Sequence[str]) -> "IntegerCode":
        """From what `text` gave."""
        rows = [[int(digit, 16) for digit in line] for line in text]
        return cls(first, np.array(rows, np.uint8))

    def text(self) -> list[str]:
        """The lengths as hexadecimal digits, a string a context."""
        return ["".join(f"{length:x}" for length in row) for row in self.lengths.tolist()]

    def write(self, numbers: Numbers, contexts: Numbers) -> tuple[Words, Numbers]:
        """Each number's bits (the last ones of a word), and how many they are."""
        symbols, wide = _symbols(numbers, self.first)
        follow = numbers - self._base[symbols]
        prefix = self._prefixes[contexts, symbols].astype(np.int64)
        bits = self.lengths[contexts, symbols].astype(np.int64) + wide
        return ((prefix << wide) | follow).astype(np.uint64), bits

    def read(self, window: Words, contexts: Numbers | int) -> tuple[Numbers, Words]:
        """The number at the head of each word, and how many bits it took."""
        place = (window >> _U(64 - LONGEST)).astype(np.int64) + (contexts << LONGEST)
        length, wide, base = (table.take(place) for table in self._tables)
        # In two steps: a shift by all 64 bits would leave the word as it is.
        follow = ((window << length) >> _U(1)) >> (_U(63) - wide)
        return base + follow.astype(np.int64), (length + wide).astype(np.uint64, copy=False)

    @cached_property
    def _prefixes(self) -> NDArray[np.uint16]:
        """Each symbol's prefix, in the canonical order: shorter first, then by symbol."""
        prefixes = np.zeros(self.lengths.shape, np.uint16)
        for context, lengths in enumerate(self.lengths):
            order = np.argsort(lengths, kind="stable")
            steps = 1 << (LONGEST - lengths[order].astype(np.int64))
            starts = np.cumsum(steps) - steps
            prefixes[context, order] = starts >> (LONGEST - lengths[order].astype(np.int64))
        return prefixes

    @cached_property
    def _tables(self) -> tuple[Words, Words, Numbers]:
        """What each 12 bits in each context begin with: prefix length, bits that follow, base."""
        order = np.argsort(self.lengths, axis=1, kind="stable")
        found = []
        for lengths, symbols in zip(self.lengths, order, strict=True):
            found.append(np.repeat(symbols, 1 << (LONGEST - lengths[symbols].astype(np.int64))))
        symbol = np.concatenate(found)
        context = np.repeat(np.arange(len(self.lengths)), 1 << LONGEST)
        length = self.lengths[context, symbol].astype(np.uint64)
        return length, self._wide[symbol].astype(np.uint64), self._base[symbol]


def octave(numbers: NDArray[np.integer]) -> Numbers:
    """How many bits each number has.

    >>> octave(np.array([0, 1, 2, 3, 4])).tolist()
    [0, 1, 2, 2, 3]
    """
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)


def _symbols(numbers: Numbers, first: int) -> tuple[Numbers, Numbers]:
    """Each number's symbol, and how many bits follow it."""
    wide = np.maximum(0, octave(numbers) - first - 1)
    return (wide << first) + (numbers >> wide), wide


def _huffman(counts: Numbers) -> NDArray[np.uint8]:
    """Prefix lengths for symbols seen so often; those never seen have one too."""
    weights = counts + 1
    while (lengths := _depths(weights.tolist())).max() > LONGEST:
        weights = weights // 2 + 1
    return lengths


def _depths(weights: list[int]) -> NDArray[np.uint8]:
    nodes = [(weight, index) for index, weight in enumerate(weights)]
    heapq.heapify(nodes)
    parents = list(range(2 * len(weights) - 1))
    for parent in range(len(weights), len(parents)):
        (one, left), (two, right) = heapq.heappop(nodes), heapq.heappop(nodes)
        parents[left] = parents[right] = parent
        heapq.heappush(nodes, (one + two, parent))
    depths = [0] * len(parents)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return np.array(depths[: len(weights)], np.uint8)
