"""Is a written answer the right one? Pure functions of the text and the reference."""

import re
from collections.abc import Callable
from functools import partial
from typing import Literal

from preceptor.errors import DataError

Verifier = Callable[[str, str], bool]
"""Takes what was written and the reference."""

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


By = Literal["exact", "numeric", "regex", "choice"]


def verifier(by: By, after: str | None = None, pattern: str | None = None) -> Verifier:
    """A verifier by name; with `after`, only what stands after the last such mark counts.

    "regex" compares what `pattern` finds last (its first group, where it has one) with what it
    finds in the reference, or with all of the reference where it finds nothing there. "choice"
    compares as "exact" does: what is compared was chosen and not written.

    >>> verifier("numeric", after="####")("7 + 8 = 15 #### 15", "15")
    True
    >>> verifier("regex", pattern=r"answer is \\(?([A-D])")("The answer is (B).", "B")
    True
    """
    if by == "numeric":
        compare = numeric
    elif by == "regex":
        if pattern is None or not _compiles(pattern):
            raise DataError(
                f"a verifier by regex was given the pattern {pattern!r}",
                "an answer is looked for with it, and it must be a regular expression",
                "Give one, such as 'answer is ([A-D])'.",
            )
        compare = partial(matching, re.compile(pattern))
    else:
        compare = exact

    def judged(written: str, reference: str) -> bool:
        return compare(answered(written, after), answered(reference, after))

    return judged


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def answered(written: str, after: str | None) -> str:
    """What stands after the last mark; all of it where there is no mark to look for or none found.

    >>> answered("so #### 4 #### 5", "####")
    ' 5'
    """
    return written if after is None else written.rpartition(after)[2]


def final_answer(written: str, by: By, after: str | None = None, pattern: str | None = None) -> str:
    """The answer alone, as the verifier of that name compares it; empty where there is none.

    >>> final_answer("7 + 1,008 = 1,015. #### 1,015.0", "numeric", "####")
    '1015'
    >>> final_answer("about 1,234,567.5", "numeric")
    '1234567.5'
    """
    said = answered(written, after)
    if by == "regex":
        return _last(re.compile(pattern or ""), said) or ""
    if by != "numeric":
        return said.strip()
    found = _NUMBER.findall(said)
    return f"{_value(found[-1]):.15g}" if found else ""


def matching(pattern: re.Pattern[str], written: str, reference: str) -> bool:
    """What the pattern finds last is the reference, blanks at both ends aside."""
    found, wanted = _last(pattern, written), _last(pattern, reference)
    return found is not None and found == (reference.strip() if wanted is None else wanted)


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = list(pattern.finditer(text))
    if not found:
        return None
    return (found[-1].group(1 if pattern.groups else 0) or "").strip()


def exact(written: str, reference: str) -> bool:
    """The same text, blanks at both ends aside."""
    return written.strip() == reference.strip()


def numeric(written: str, reference: str) -> bool:
    """The same last number, thousands separators aside; wrong where one holds none.

    >>> numeric("about 1,250 in all.", "1250.0"), numeric("none", "1")
    (True, False)
    """
    found, wanted = _NUMBER.findall(written), _NUMBER.findall(reference)
    if not found or not wanted:
        return False
    return _value(found[-1]) == _value(wanted[-1])


def _value(number: str) -> float:
    return float(number.replace(",", ""))
