"""Is a written answer the right one? Pure functions of the text and the reference."""

import re
from collections.abc import Callable
from typing import Literal

Verifier = Callable[[str, str], bool]
"""Takes what was written and the reference."""

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def verifier(by: Literal["exact", "numeric"], after: str | None = None) -> Verifier:
    """A verifier by name; with `after`, only what stands after the last such mark counts.

    >>> verifier("numeric", after="####")("7 + 8 = 15 #### 15", "15")
    True
    """
    compare = {"exact": exact, "numeric": numeric}[by]

    def judged(written: str, reference: str) -> bool:
        return compare(answered(written, after), answered(reference, after))

    return judged


def answered(written: str, after: str | None) -> str:
    """What stands after the last mark; all of it where there is no mark to look for or none found.

    >>> answered("so #### 4 #### 5", "####")
    ' 5'
    """
    return written if after is None else written.rpartition(after)[2]


def final_answer(written: str, by: Literal["exact", "numeric"], after: str | None = None) -> str:
    """The answer alone, as the verifier of that name compares it; empty where there is none.

    >>> final_answer("7 + 1,008 = 1,015. #### 1,015.0", "numeric", "####")
    '1015'
    """
    said = answered(written, after)
    if by == "exact":
        return said.strip()
    found = _NUMBER.findall(said)
    return f"{_value(found[-1]):g}" if found else ""


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
