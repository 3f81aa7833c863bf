"""How much of the test part stands in the training part, exactly or nearly; here, of text.

Text is compared by its words, without case and punctuation. Whatever the teacher saw before the run
is known to nobody here.

Dimension key: g sequences of words.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import UInt64

WORDS = 13
"""Words in a row that two texts are not taken to share by chance: Tom Brown et al. "Language
Models are Few-Shot Learners". NeurIPS, 2020."""

_SHARE = 0.5
_FEWEST = 5
NAMED = 5
"""Examples that are named."""

_ROWS = 20_000
"""Training rows that are looked at together."""
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")
"""A run of letters and digits; scripts without blanks count each sign."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Passage(NamedTuple):
    """A row's text: its question (a prompt, or the whole of a document), all of it, its place."""

    place: str
    question: str
    whole: str


@final
@dataclass(frozen=True)
class Contamination:
    """Test examples that stand in the training part.

    Args:
        tested: test examples that were looked for.
        trained: training examples that they were looked for in.
        exact: test examples that stand there as they are.
        near: further ones that resemble one of them.
        unjudged: test examples too short, or too small, to be called nearly the same.
        how: what "exact" and "nearly" mean here, in a sentence.
        found: the first few, each with the training example.
    """

    tested: int
    trained: int
    exact: int
    near: int
    unjudged: int
    how: str
    found: tuple[str, ...]

    def sentence(self) -> str:
        """What a reader must know; empty where nothing was found."""
        if not self.exact + self.near:
            return ""
        each = "; ".join(self.found)
        return (
            f"contamination: of {self.tested} test examples {self.exact} stand among "
            f"{self.trained} training examples as they are and {self.near} more resemble one: "
            f"{each}"
        )


def of_text(train: Iterable[Passage], test: Sequence[Passage]) -> Contamination:
    """Look for test rows among training rows.

    Memory is that of the test rows; training rows are read once.
    """
    asked = {_plain(passage.question): index for index, passage in reversed([*enumerate(test)])}
    sought = _Sought(test)
    exact: dict[str, str] = {}
    trained = 0
    for rows in _chunks(train):
        trained += len(rows)
        for row in rows:
            if (question := _plain(row.question)) in asked:
                exact.setdefault(question, row.place)
        sought.look(rows)
    found = [(i, exact[q]) for i, p in enumerate(test) if (q := _plain(p.question)) in exact]
    whole = {index for index, _ in found}
    near = [(index, place) for index, place in sought.found() if index not in whole]
    return Contamination(
        tested=len(test),
        trained=trained,
        exact=len(found),
        near=len(near),
        unjudged=sum(len(words) < _FEWEST for words in sought.words),
        how=(
            "as it is: the same question, or the same document, but for blanks; nearly: half or "
            f"more of its sequences of {WORDS} words stand there, or all its words in a row where "
            f"it has {_FEWEST} to {WORDS - 1}"
        ),
        found=tuple(
            # Two texts of one row, as the sentences of a pair, have one place.
            dict.fromkeys(
                f"{test[i].place} {does} {place}"
                for does, each in (("is in", found), ("resembles", near))
                for i, place in each
            )
        )[:NAMED],
    )


@final
class _Sought:
    """The test rows' sequences of words, and which of them were met."""

    def __init__(self, test: Sequence[Passage]) -> None:
        self.words = [_words(passage.whole) for passage in test]
        self._length = [min(WORDS, len(words)) for words in self.words]
        self._hashes = {
            length: np.unique(np.concatenate([_hashed([w], length)[0] for w in self._of(length)]))
            for length in sorted(set(self._length))
            if length >= _FEWEST
        }
        self._met: dict[int, str] = {}

    def _of(self, length: int) -> list[list[str]]:
        return [w for w, own in zip(self.words, self._length, strict=True) if own == length]

    def look(self, rows: Sequence[Passage]) -> None:
        """Note where each sequence is met first."""
        words = [_words(row.whole) for row in rows]
        for length, hashes in self._hashes.items():
            seen, whose = _hashed(words, length)
            for at in np.isin(seen, hashes).nonzero()[0]:
                self._met.setdefault(int(seen[at]), rows[whose[at]].place)

    def found(self) -> Iterator[tuple[int, str]]:
        """Test rows of which enough was met, with the place of the first of it."""
        for index, (words, length) in enumerate(zip(self.words, self._length, strict=True)):
            if length < _FEWEST:
                continue
            own = [int(one) for one in _hashed([words], length)[0]]
            met = [self._met[one] for one in own if one in self._met]
            if len(met) >= _SHARE * len(own):
                yield index, met[0]


def _hashed(
    rows: Sequence[Sequence[str]], length: int
) -> tuple[UInt64[np.ndarray, " g"], np.ndarray]:
    """A number for each sequence of `length` words inside a row, and the row it is of."""
    each = [word for row in rows for word in row]
    numbers = np.array([hash(word) for word in each], dtype=np.int64).view(np.uint64)
    whose = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    if len(each) < length:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    count = len(each) - length + 1
    total = np.zeros(count, dtype=np.uint64)
    for step in range(length):
        total = total * _FACTOR + numbers[step : step + count]
    inside = whose[:count] == whose[length - 1 :]
    return total[inside], whose[:count][inside]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _plain(text: str) -> str:
    return " ".join(text.split())


def _chunks(rows: Iterable[Passage]) -> Iterator[list[Passage]]:
    held: list[Passage] = []
    for row in rows:
        held.append(row)
        if len(held) == _ROWS:
            yield held
            held = []
    if held:
        yield held
