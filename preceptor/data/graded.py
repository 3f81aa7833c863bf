"""Pairs of sentences with a grade of how alike they are, as data sets of textual similarity have.

Dimension key: m pairs.
"""

import math
from dataclasses import dataclass
from typing import Any, final

from preceptor.data.reading import RowStream, refused
from preceptor.data.rows import Broken
from preceptor.errors import DataError

COLUMNS = ("sentence1", "sentence2", "score")
"""What the two sentences and their grade are called, as the STS benchmark does."""

_FEWEST = 3


@final
@dataclass(frozen=True)
class Graded:
    """Two sentences and their grade, on any scale; more is more alike."""

    first: str
    second: str
    score: float
    place: str


def read_graded(source: str) -> tuple[Graded, ...]:
    """The pairs of a file of records (.csv, .jsonl, .json, .parquet) with the `COLUMNS`.

    Raises:
        DataError: a record lacks one of them or has a score that is no number; there are fewer
            than three pairs, or one score for all.
    """
    found: list[Graded] = []
    faults: list[Broken] = []
    for place, record in RowStream(source).records():
        each = record if isinstance(record, Broken) else _pair(record, place)
        (faults if isinstance(each, Broken) else found).append(each)  # pyright: ignore[reportArgumentType]
    if faults:
        raise refused(faults, source)
    if len(found) < _FEWEST or len({pair.score for pair in found}) < 2:
        raise DataError(
            f"{source} has {len(found)} graded pairs of sentences",
            "similarities are correlated with their grades, which must vary",
            f"Give {_FEWEST} pairs or more, with different scores.",
        )
    return tuple(found)


def _pair(record: Any, place: str) -> Graded | Broken:
    missing = [name for name in COLUMNS if not isinstance(record, dict) or record.get(name) is None]
    if missing:
        return Broken(place, f"has no {', '.join(missing)}")
    try:
        score = float(record["score"])
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        return Broken(place, f"has the score {record['score']!r}, which is no number")
    return Graded(str(record["sentence1"]), str(record["sentence2"]), score, place)
