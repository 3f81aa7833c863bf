"""Two tokenisations of the same bytes: where they meet, and what they share between.

A boundary is shared where both tokenisations end a token after the same bytes. Between two shared
boundaries that follow each other lies a chunk: one or several tokens on each side, the same bytes.
By the chain rule log p(chunk) is the sum of its tokens' conditionals on either side. What stands
on one side alone (a BOS, a template's thinking block before the response) belongs to no chunk: it
is part of the context, like a prompt.

Dimension key: n tokens of one side, c chunks.
"""

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from preceptor.data.pieces import Tokens

Array = NDArray[Any]
Boundaries = Literal["meeting", "certain"]
"""Which shared boundaries end a chunk: all, or those that stand whatever text comes next."""


@final
@dataclass(frozen=True)
class Coverage:
    """How much of the scored responses lies in chunks that both sides share; adds up over rows.

    Args:
        units: bytes (and shared special tokens) of the student's responses; `covered` in chunks.
        tokens: the student's; `in_chunks` of them lie in chunks.
        chunks: how many there are; `single` of them are one token on both sides.
    """

    units: int = 0
    covered: int = 0
    tokens: int = 0
    in_chunks: int = 0
    chunks: int = 0
    single: int = 0

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(*(a + b for a, b in zip(_numbers(self), _numbers(other), strict=True)))

    @property
    def share(self) -> float:
        """The share of the responses' bytes that lies in chunks; 1 where there are none."""
        return self.covered / self.units if self.units else 1.0

    def sentence(self) -> str:
        """One sentence to print; a single chunk is one token on both sides.

        >>> Coverage(200, 190, 50, 48, chunks=30, single=15).sentence()
        '95.0 % of 200 response bytes and 48 of 50 tokens lie in 30 shared chunks; 50.0 % single'
        """
        single = self.single / self.chunks if self.chunks else 0.0
        return (
            f"{self.share:.1%} of {self.units:,} response bytes and {self.in_chunks:,} of "
            f"{self.tokens:,} tokens lie in {self.chunks:,} shared chunks; {single:.1%} single"
        ).replace("%", " %")


@final
@dataclass(frozen=True)
class Alignment:
    """The chunks of one response, in order.

    Args:
        student, teacher: each chunk's tokens, first and one past the last [c, 2].
        coverage: how much of the response they are.
    """

    student: Int[Array, "c 2"]
    teacher: Int[Array, "c 2"]
    coverage: Coverage


def align(student: Tokens, teacher: Tokens, boundaries: Boundaries = "meeting") -> Alignment:
    """The chunks that two tokenisations of one response share.

    The responses may differ in one place (what one template adds before, between or after, or
    where one of them was cut short); nothing is matched across it. With `boundaries="certain"`
    chunks run on to the next boundary that no continuation of the text would have moved, on both
    sides: then p(chunk) is the probability of the bytes themselves, free of tokenisation bias.
    """
    head, tail = _common(student.units, teacher.units)
    ours, theirs = _boundaries(student, head, tail), _boundaries(teacher, head, tail)
    meeting = np.intersect1d(ours, theirs)
    meeting = meeting[meeting >= 0]
    if boundaries == "certain":
        kept = student.certain[_first(ours, meeting)] & teacher.certain[_first(theirs, meeting)]
        kept[0] = True  # The response begins here whatever comes next.
        meeting = meeting[kept]
    # Of several boundaries at one place the first ends what is before, the last begins what comes.
    spans = [_spans(own, meeting) for own in (ours, theirs)]
    lengths = np.diff(meeting)
    exact = np.ones(len(lengths), np.bool_)
    for tokens, span in zip((student, teacher), spans, strict=True):
        exact &= _is_exact(tokens, span, lengths)
    ours, theirs = spans[0][exact], spans[1][exact]
    counts = ours[:, 1] - ours[:, 0], theirs[:, 1] - theirs[:, 0]
    covered = Coverage(
        units=len(student.units),
        covered=int(lengths[exact].sum()),
        tokens=len(student.ends),
        in_chunks=int(counts[0].sum()),
        chunks=len(ours),
        single=int(((counts[0] == 1) & (counts[1] == 1)).sum()),
    )
    return Alignment(ours, theirs, covered)


def _common(first: Array, second: Array) -> tuple[int, int]:
    """How many units both begin with, and how many of the rest both end with."""
    short = min(len(first), len(second))
    head = _matching(first[:short], second[:short])
    rest = short - head
    tail = _matching(first[::-1][:rest], second[::-1][:rest])
    return head, tail


def _matching(first: Array, second: Array) -> int:
    differs = first != second
    return int(differs.argmax()) if differs.any() else len(first)


def _boundaries(tokens: Tokens, head: int, tail: int) -> Int[Array, " _"]:
    """Where the boundary after each number of tokens lies in what both share; -1 where nowhere."""
    reached = np.concatenate([np.zeros(1, np.int64), tokens.ends])
    after = reached - (len(tokens.units) - tail) + head
    shared = np.where(reached <= head, reached, np.where(after >= head, after, -1))
    shared[1:][tokens.cut] = -1
    return shared


def _first(boundaries: Array, places: Array) -> Array:
    order = np.flatnonzero(boundaries >= 0)
    return order[np.searchsorted(boundaries[order], places, "left")]


def _last(boundaries: Array, places: Array) -> Array:
    order = np.flatnonzero(boundaries >= 0)
    return order[np.searchsorted(boundaries[order], places, "right") - 1]


def _spans(boundaries: Array, places: Array) -> Int[Array, "_ 2"]:
    """The tokens between places that follow each other."""
    if len(places) < 2:
        return np.empty((0, 2), np.int64)
    return np.stack([_last(boundaries, places[:-1]), _first(boundaries, places[1:])], axis=1)


def _is_exact(tokens: Tokens, spans: Array, lengths: Array) -> Bool[Array, " c"]:
    """Chunks that hold the shared bytes, all of them, whole, and nothing else."""
    reached = np.concatenate([np.zeros(1, np.int64), tokens.ends])
    empty = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(reached) == 0)])
    broken = np.concatenate([np.zeros(1, np.int64), np.cumsum(tokens.spoiled)])
    start, stop = spans[:, 0], spans[:, 1]
    own = reached[stop] - reached[start]
    whole = (own == lengths) & (empty[stop] == empty[start])
    return whole & (broken[reached[stop]] == broken[reached[start]])


def _numbers(coverage: Coverage) -> tuple[int, ...]:
    return tuple(vars(coverage).values())
