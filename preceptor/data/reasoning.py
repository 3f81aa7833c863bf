"""Small reasoning tasks, each a rule over a short sequence of tokens, and as many rows as asked.

A row is a sequence drawn at random and what the rule makes of it. It is shown as one-hot tokens in
a small square image (`squares`). All rows of a task differ, so that no test row was trained on.

Dimension key: n rows, l places.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Int

from preceptor.data.counter import below, words
from preceptor.data.raw import RawData, RawSet
from preceptor.data.squares import one_hot, square_images

Tokens = Int[np.ndarray, "n l"]
Answers = Int[np.ndarray, " n"]

ROWS = 1500
_DRAW = 11
_AND, _OR = 0, 1
_LARGEST, _LEAST, _MIDDLE = 0, 1, 2


@final
@dataclass(frozen=True)
class Reasoning:
    """One task.

    Args:
        rule: what is asked, in words.
        vocabulary: how many tokens each place knows.
        answer: from sequences to classes, counted from 0.
        classes: the classes' names.
    """

    rule: str
    vocabulary: tuple[int, ...]
    answer: Callable[[Tokens], Answers]
    classes: tuple[str, ...]

    def rows(self, count: int, seed: int = 0) -> tuple[Tokens, Answers]:
        """So many different sequences with their answers; a function of count and seed alone."""
        places = np.arange(len(self.vocabulary))
        drawn = words(seed, _DRAW, np.arange(8 * count)[:, None], places)
        columns = [below(size, drawn[:, place]) for place, size in enumerate(self.vocabulary)]
        tokens = np.stack(columns, axis=1)
        _, first = np.unique(tokens, axis=0, return_index=True)
        tokens = tokens[np.sort(first)[:count]]
        assert len(tokens) == count, f"there are only {len(tokens)} rows of {self.rule}"
        return tokens, self.answer(tokens)


def read_reasoning(name: str) -> RawData:
    """One of `REASONING`, `ROWS` rows."""
    task = REASONING[name]
    tokens, answers = task.rows(ROWS)
    pixels = square_images(one_hot(tokens, task.vocabulary))
    whole = RawSet(pixels, torch.from_numpy(answers.astype(np.int64)), task.classes, "train")
    return RawData(whole, None, None, f"{name}: {task.rule}")


def _parity(tokens: Tokens) -> Answers:
    return tokens[:, :4].sum(axis=1) % 2


def _modular_sum(tokens: Tokens) -> Answers:
    return tokens.sum(axis=1) % 5


def _comparison(tokens: Tokens) -> Answers:
    powers = 6 ** np.arange(3)[::-1]
    return (tokens[:, :3] @ powers > tokens[:, 3:] @ powers).astype(np.int64)


def _sorting(tokens: Tokens) -> Answers:
    """Equal numbers keep their order."""
    return np.argsort(tokens, axis=1, kind="stable")[:, 1]


def _majority(tokens: Tokens) -> Answers:
    return (tokens[:, :, None] == np.arange(3)).sum(axis=1).argmax(axis=1)


def _gate(operation: Answers, left: Answers, right: Answers) -> Answers:
    both = [operation == _AND, operation == _OR]
    return np.select(both, [left & right, left | right], left ^ right)


def _circuit(tokens: Tokens) -> Answers:
    """Places: a, b, c, d, e, f, then the five gates."""
    bits, gates = tokens[:, :6].T, tokens[:, 6:].T
    pairs = [_gate(gates[i], bits[2 * i], bits[2 * i + 1]) for i in range(3)]
    return _gate(gates[4], _gate(gates[3], pairs[0], pairs[1]), pairs[2])


def _folded(operation: Answers, values: Tokens) -> Answers:
    each = [values.max(axis=1), values.min(axis=1), np.median(values, axis=1).astype(np.int64)]
    return np.select([operation == k for k in (_LARGEST, _LEAST, _MIDDLE)], each)


def _nested_lists(tokens: Tokens) -> Answers:
    """Places: the outer operation, two numbers, the inner operation, three numbers."""
    inner = _folded(tokens[:, 3], tokens[:, 4:])
    return _folded(tokens[:, 0], np.column_stack([tokens[:, 1:3], inner]))


def _counting(tokens: Tokens) -> Answers:
    return np.minimum((tokens == 0).sum(axis=1), 4)


def _repeats(tokens: Tokens) -> Answers:
    ordered = np.sort(tokens, axis=1)
    return (ordered[:, 1:] == ordered[:, :-1]).any(axis=1).astype(np.int64)


def _automaton(tokens: Tokens) -> Answers:
    state = np.zeros(len(tokens), dtype=np.int64)
    for step in tokens.T:
        state = np.where(step == 0, (state + 1) % 3, np.where(step == 1, 2 - state, state))
    return state


def _arithmetic(tokens: Tokens) -> Answers:
    a, b, c, d = tokens.T
    return (a + b * c - d) % 5


def _longest_run(tokens: Tokens) -> Answers:
    longest = here = np.ones(len(tokens), dtype=np.int64)
    for before, now in zip(tokens.T, tokens.T[1:], strict=False):
        here = np.where(now == before, here + 1, 1)
        longest = np.maximum(longest, here)
    return np.clip(longest, 2, 5) - 2


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


_NO_YES = ("no", "yes")

REASONING: dict[str, Reasoning] = {
    "parity": Reasoning(
        "is the number of ones among the first 4 of 12 bits odd?", (2,) * 12, _parity, _NO_YES
    ),
    "modular_sum": Reasoning(
        "the sum of 5 digits of 0 to 4, modulo 5", (5,) * 5, _modular_sum, _numbers(5)
    ),
    "comparison": Reasoning(
        "is the first of two numbers of 3 digits in base 6 larger?", (6,) * 6, _comparison, _NO_YES
    ),
    "sorting": Reasoning(
        "where is the second least of 4 digits?", (10,) * 4, _sorting, _numbers(4)
    ),
    "majority": Reasoning(
        "which of 3 tokens comes most often among 9? The first of equals.",
        (3,) * 9,
        _majority,
        _numbers(3),
    ),
    "circuit": Reasoning(
        "((a g b) g (c g d)) g (e g f), each gate g one of and, or, xor",
        (2,) * 6 + (3,) * 5,
        _circuit,
        _NO_YES,
    ),
    "nested_lists": Reasoning(
        "the largest, least or middle of two digits and of the largest, least or middle of three",
        (3, 5, 5, 3, 5, 5, 5),
        _nested_lists,
        _numbers(5),
    ),
    "counting": Reasoning(
        "how often does one of 3 tokens come among 8? Up to 4.", (3,) * 8, _counting, _numbers(5)
    ),
    "repeats": Reasoning(
        "does any of 9 tokens come twice among 4 places?", (9,) * 4, _repeats, _NO_YES
    ),
    "automaton": Reasoning(
        "the state of a machine with 3 states after it read 7 tokens",
        (3,) * 7,
        _automaton,
        _numbers(3),
    ),
    "chained_arithmetic": Reasoning(
        "a + b * c - d modulo 5, for digits of 0 to 7", (8,) * 4, _arithmetic, _numbers(5)
    ),
    "longest_run": Reasoning(
        "how long is the longest run of equal bits among 12? 5 for longer ones, 2 for shorter.",
        (2,) * 12,
        _longest_run,
        tuple(map(str, range(2, 6))),
    ),
}
"""The tasks by name."""
