"""Lists of ids with a number each, as bits: what top-k and sampled caches keep of a position.

Ids ascend; each is written as the gap to the one before, in a code of its own for each power of
two that the one before lies in (common tokens have small ids, which lie close), then its number.

Dimension key: n positions, k entries, r rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from preceptor.teachers.tokens.codes import IntegerCode, Numbers, Words, octave

_GAP_BITS, _NUMBER_BITS = 2, 6
_U = np.uint64


@final
@dataclass(frozen=True)
class Lists:
    """What is kept of some positions.

    Args:
        ids: ascending [n, k]; -1 at the end where a position has fewer.
        numbers: one for each id [n, k], from 0 on; 0 where there is none.
        heads: one number a position [n], 16 bits.
    """

    ids: NDArray[np.int64]
    numbers: NDArray[np.int64]
    heads: NDArray[np.uint16]

    @classmethod
    def joined(cls, parts: "Sequence[Lists]") -> "Lists":
        """All positions, one part after another."""
        width = max(part.ids.shape[1] for part in parts)

        def wide(array: NDArray[np.int64], fill: int) -> NDArray[np.int64]:
            room = ((0, 0), (0, width - array.shape[1]))
            return np.pad(array, room, constant_values=fill)

        return cls(
            np.concatenate([wide(part.ids, -1) for part in parts]),
            np.concatenate([wide(part.numbers, 0) for part in parts]),
            np.concatenate([part.heads for part in parts]),
        )

    def picked(self, positions: NDArray[np.bool_]) -> "Lists":
        """Some positions."""
        return Lists(self.ids[positions], self.numbers[positions], self.heads[positions])


@final
@dataclass(frozen=True)
class Packed:
    """Lists as bits.

    Args:
        bits: all rows' bytes, one after another.
        starts: the byte where each row begins, and the end [r + 1].
        lengths: bits of each position [n].
        heads: one number a position [n].
    """

    bits: NDArray[np.uint8]
    starts: Numbers
    lengths: NDArray[np.uint32]
    heads: NDArray[np.uint16]


@final
@dataclass(frozen=True)
class Coding:
    """The two codes of a cache: of gaps between ids, and of the ids' numbers."""

    gaps: IntegerCode
    numbers: IntegerCode

    @classmethod
    def fitted(cls, lists: Lists, classes: int, largest: int) -> "Coding":
        """The codes that suit these lists; ids are below `classes`, numbers at most `largest`."""
        entries = _Entries.of(lists)
        contexts = int(octave(np.array([classes]))[0]) + 1
        gaps = IntegerCode.fitted(_GAP_BITS, classes, entries.gaps, entries.contexts, contexts)
        none = np.zeros_like(entries.numbers)
        return cls(gaps, IntegerCode.fitted(_NUMBER_BITS, largest, entries.numbers, none, 1))

    @classmethod
    def told(cls, text: dict[str, Any]) -> "Coding":
        """From what `text` gave."""
        gaps = IntegerCode.told(_GAP_BITS, text["gaps"])
        return cls(gaps, IntegerCode.told(_NUMBER_BITS, text["numbers"]))

    def text(self) -> dict[str, Any]:
        """As JSON."""
        return {"gaps": self.gaps.text(), "numbers": self.numbers.text()}

    def packed(self, lists: Lists, counts: Numbers) -> Packed:
        """Bits of the lists of rows of so many positions; each row begins at a byte."""
        entries = _Entries.of(lists)
        gap, gap_bits = self.gaps.write(entries.gaps, entries.contexts)
        number, number_bits = self.numbers.write(entries.numbers, np.zeros_like(entries.numbers))
        words = (gap << number_bits.astype(np.uint64)) | number
        widths = gap_bits + number_bits
        lengths = np.bincount(entries.position, widths, len(lists.ids)).astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        total = np.concatenate([[0], np.cumsum(lengths)])
        starts = np.concatenate([[0], np.cumsum(-(-np.diff(total[bounds]) // 8))])
        row = np.repeat(np.arange(len(counts)), counts)[entries.position]
        # Within a row bits follow one another without a gap.
        before = np.cumsum(widths) - widths - total[bounds[row]]
        bits = _laid(words, widths, 8 * starts[row] + before, int(starts[-1]))
        return Packed(bits, starts, lengths.astype(np.uint32), lists.heads)

    def unpacked(self, packed: Packed, counts: Numbers) -> Lists:
        """The lists of all positions of all rows."""
        lengths = packed.lengths.astype(np.int64)
        ends = np.cumsum(lengths)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        shift = 8 * packed.starts[:-1] - np.concatenate([[0], ends])[bounds[:-1]]
        ends = ends + np.repeat(shift, counts)
        # Eight bytes are read at once, also at the end.
        words = np.concatenate([packed.bits, np.zeros(8, np.uint8)])
        windows = np.ndarray((len(words) - 7,), ">u8", words, strides=(1,))
        columns = self._columns(windows, ends - lengths, ends)
        shape = (len(columns), len(lengths))
        ids, numbers = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
        for k, (lanes, id_, number) in enumerate(columns):
            ids[k, lanes], numbers[k, lanes] = id_, number
        return Lists(np.ascontiguousarray(ids.T), np.ascontiguousarray(numbers.T), packed.heads)

    def _columns(
        self, windows: NDArray[Any], at: Numbers, ends: Numbers
    ) -> list[tuple[Numbers, Numbers, Numbers]]:
        """The first entry of every position that has one, the second, and so on."""
        found: list[tuple[Numbers, Numbers, Numbers]] = []
        lanes = np.arange(len(at))
        last = np.full(len(at), -1, np.int64)
        while True:
            going = at < ends
            if not going.all():
                lanes, at, ends, last = lanes[going], at[going], ends[going], last[going]
            if not len(at):
                return found
            window = windows.take(at >> 3).astype(np.uint64) << (at & 7).astype(np.uint64)
            gap, used = self.gaps.read(window, octave(last + 1))
            number, more = self.numbers.read(window << used, 0)
            last = last + gap + 1
            at = at + (used + more).astype(np.int64)
            found.append((lanes, last, number))


@final
@dataclass(frozen=True)
class _Entries:
    """All entries of some lists in order: gap, its context, number, and whose position it is."""

    gaps: Numbers
    contexts: Numbers
    numbers: Numbers
    position: Numbers

    @classmethod
    def of(cls, lists: Lists) -> "_Entries":
        there = lists.ids >= 0
        before = np.concatenate([np.full_like(lists.ids[:, :1], -1), lists.ids[:, :-1]], axis=1)
        gaps, before = (lists.ids - before - 1)[there], before[there]
        return cls(gaps, octave(before + 1), lists.numbers[there], there.nonzero()[0])


def _laid(words: Words, widths: Numbers, at: Numbers, size: int) -> NDArray[np.uint8]:
    """Bytes in which each word's last `widths` bits (at most 57) stand at bit `at`."""
    aligned = words << (64 - widths - (at & 7)).astype(np.uint64)
    laid = np.zeros(size + 8)
    for byte in range(8):
        part = (aligned >> _U(56 - 8 * byte)) & _U(255)
        # No two words share a bit, so adding is joining.
        laid += np.bincount((at >> 3) + byte, part.astype(np.float64), len(laid))
    return laid[:size].astype(np.uint8)
