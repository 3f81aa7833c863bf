"""Chained arithmetic with rationales: endless rows that a small model can learn, without words.

A row is a prompt "7+15*3=", a completion with one step a line and the result behind "#### ", and
the result as its answer:

    15*3=45
    7+45=52
    #### 52
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from operator import add, mul, sub
from typing import Literal, final

import numpy as np

from preceptor.data.counter import below, words
from preceptor.data.rows import Row, Rows
from preceptor.errors import DataError

Part = Literal["train", "validation", "test"]

_DRAW = 7
_PATIENCE = 2000
"""Known problems in a row after which there are no others worth the search."""
_OPERATIONS = {"+": add, "-": sub, "*": mul}
_TENTHS: dict[Part, range] = {
    "train": range(8),
    "validation": range(8, 9),
    "test": range(9, 10),
}


@final
@dataclass(frozen=True)
class Arithmetic:
    """Problems of one difficulty.

    Which part a problem belongs to is a function of the problem itself: eight in ten are for
    training, one each for validation and test, so no two parts share a problem, whatever the seeds
    and sizes.

    Args:
        operations: how many operations a problem chains, 1 or more.
        largest: the largest number in a problem, in a step and in a result; all lie in 0 to
            `largest`.
        signs: the operations, of "+", "-" and "*".

    Raises:
        DataError: there are no such problems.
    """

    operations: int = 2
    largest: int = 99
    signs: str = "+-*"

    def __post_init__(self) -> None:
        if self.operations < 1 or self.largest < 9 or not set(self.signs) <= set(_OPERATIONS):
            raise DataError(
                f"arithmetic with operations={self.operations}, largest={self.largest},"
                f" signs={self.signs!r}",
                "a problem has an operation or more of +, - and *, and numbers up to 9 or more",
                "Say so.",
            )
        if not self.signs:
            raise DataError("arithmetic without signs", "a problem has one", "Give some of '+-*'.")

    def rows(self, count: int, part: Part = "train", seed: int = 0) -> Rows:
        """So many different problems of a part; the first ones are the same for a larger count.

        Raises:
            DataError: there are fewer.
        """
        found: dict[str, Row] = {}
        known = 0
        for problem in self._drawn(part, seed):
            known += 1
            if problem not in found:
                found[problem] = self._row(len(found), problem, part)
                known = 0
            if len(found) == count:
                break
            if known > _PATIENCE:
                raise DataError(
                    f"{count} problems of {self} for the {part} part",
                    f"only {len(found)} different ones were found",
                    "Ask for fewer, for longer chains or for larger numbers.",
                )
        return Rows(tuple(found.values()), f"arithmetic ({part})")

    def _drawn(self, part: Part, seed: int) -> Iterator[str]:
        """Problems of a part, one after the other, some more than once."""
        width = 2 * self.operations + 1
        draw = 0
        while True:
            block = words(seed, _DRAW, np.arange(draw, draw + 4096)[:, None], np.arange(width))
            for line in block:
                problem = self._problem(line)
                if problem is not None and _tenth(problem) in _TENTHS[part]:
                    yield problem
            draw += 4096

    def _problem(self, drawn: np.ndarray) -> str | None:
        """The problem that some words make, or None where a number would leave the range."""
        numbers = below(self.largest + 1, drawn[: self.operations + 1]).tolist()
        signs = below(len(self.signs), drawn[self.operations + 1 :]).tolist()
        terms = [self.signs[s] for s in signs]
        for i, sign in enumerate(terms):
            if sign == "*":  # few products of large numbers stay in range: one factor is a digit
                numbers[i + 1] = 1 + numbers[i + 1] % 9
        problem = str(numbers[0]) + "".join(
            f"{sign}{number}" for sign, number in zip(terms, numbers[1:], strict=True)
        )
        results = [result for _, result in _steps(problem)]
        return problem if all(0 <= result <= self.largest for result in results) else None

    def _row(self, number: int, problem: str, part: Part) -> Row:
        steps = _steps(problem)
        answer = str(steps[-1][1])
        told = "".join(f"{step}={result}\n" for step, result in steps)
        return Row(
            number,
            f"arithmetic, {part} problem {number + 1}",
            prompt=f"{problem}=",
            completion=f"{told}#### {answer}",
            answer=answer,
            tag=f"{self.operations} operations",
        )


def final_answer(response: str) -> str | None:
    """What stands behind the last "#### " of a response, to the end of its line; None if nothing.

    >>> final_answer("7+45=52\\n#### 52")
    '52'
    """
    _, marker, rest = response.rpartition("####")
    lines = rest.strip().splitlines()
    return lines[0].strip() if marker and lines else None


def _steps(problem: str) -> list[tuple[str, int]]:
    """Each step and its result: products first, then from left to right."""
    tokens: list[str] = []
    for character in problem:
        if character.isdigit() and tokens and tokens[-1].isdigit():
            tokens[-1] += character
        else:
            tokens.append(character)
    steps: list[tuple[str, int]] = []
    while len(tokens) > 1:
        at = tokens.index("*") if "*" in tokens else 1
        left, sign, right = tokens[at - 1 : at + 2]
        result = _OPERATIONS[sign](int(left), int(right))
        steps.append((left + sign + right, result))
        tokens[at - 1 : at + 2] = [str(result)]
    return steps


def _tenth(problem: str) -> int:
    return int.from_bytes(hashlib.sha256(problem.encode()).digest()[:8], "big") % 10
