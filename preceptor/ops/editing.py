"""How many words must be changed to turn one text into another.

Dimension key: n pairs, w words.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and signs of a text, blanks left out.

    >>> words("7 + 8 = 15.")
    ['7', '+', '8', '=', '15', '.']
    """
    return _WORD.findall(text)


def edit_similarity(first: Sequence[str], second: Sequence[str]) -> Float[np.ndarray, " n"]:
    """1 - edit distance in words / the longer one's words: 1 for the same words, 0 for all others.

    The distance counts words put in, left out or exchanged (V. Levenshtein, 1966). Two texts
    without a word are the same.

    >>> edit_similarity(["a b c"], ["a x c"]).round(3)
    array([0.667])
    """
    number: dict[str, int] = {}
    sides = [[_numbers(text, number) for text in side] for side in (first, second)]
    lengths = [np.array([len(each) for each in side]) for side in sides]
    distance = _distances(*map(_padded, sides), *lengths)
    return 1 - distance / np.maximum(1, np.maximum(*lengths))


def _numbers(text: str, number: dict[str, int]) -> list[int]:
    return [number.setdefault(word, len(number)) for word in words(text)]


def _padded(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "n w"]:
    padded = np.full((len(rows), max(map(len, rows), default=0)), -1)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded


def _distances(
    first: Int[np.ndarray, "n w"],
    second: Int[np.ndarray, "n x"],
    first_length: Int[np.ndarray, " n"],
    second_length: Int[np.ndarray, " n"],
) -> Int[np.ndarray, " n"]:
    """Of all pairs at once, row by row of the usual table; padding is never reached."""
    column = np.arange(second.shape[1] + 1)
    row = np.broadcast_to(column, (len(first), len(column)))
    pair = np.arange(len(first))
    found = np.where(first_length == 0, second_length, 0)
    for i in range(1, first.shape[1] + 1):
        exchanged = row[:, :-1] + (first[:, i - 1, None] != second)
        best = np.concatenate([row[:, :1] + 1, np.minimum(exchanged, row[:, 1:] + 1)], axis=1)
        # Put in from the left: min over k <= j of best[k] + (j - k).
        row = np.minimum.accumulate(best - column, axis=1) + column
        found = np.where(first_length == i, row[pair, second_length], found)
    return found
