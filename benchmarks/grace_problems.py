"""Chained sums with one digit a number, and the ways in which a teacher may write their working.

A problem is "3+4-2+1=", every number and every result lies in 0 to 9. All workings end in "####"
and the answer, but for the one that begins with it. Where a layout leaves a choice (the mark
between two steps, which summand comes first, the words) it is drawn, as people's solutions vary.

Dimension key: n prompts, k responses to each.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preceptor.data.arithmetic import Arithmetic, Part, final_answer
from preceptor.data.rows import Row

SUMS = Arithmetic(operations=3, largest=9, signs="+-")
_SHORTER = Arithmetic(operations=2, largest=9, signs="+-")
ALPHABET = "0123456789+-=#;,.: \nabcdefghijklmnopqrstuvwxyz"
LONGEST = 80
"""Tokens of the longest prompt and its working, with room."""

_MARKS, _SHARES = ("\n", "; ", ", "), (0.6, 0.25, 0.15)
_BEGINS, _VERBS = ("so", "then", "now", "next"), ("is", "makes", "gives")
_OTHER = 7  # Draws other problems than `problems` does; a few may be the same.
_MISTAKEN = 0.3  # Of the worked problems in general text.
_TURNED = 0.25  # How often a sum's second number is written first.


class Step(NamedTuple):
    """One sum: "3+4=7"."""

    left: int
    sign: str
    right: int

    @property
    def result(self) -> int:
        """What it comes to."""
        return self.left + self.right if self.sign == "+" else self.left - self.right


Working = Sequence[tuple[Step, int]]
"""Each sum with what the writer believes it to be."""
Style = Callable[[Working, np.random.Generator], str]


def problems(count: int, part: Part) -> list[Row]:
    """So many different problems; the first are the same for a larger count."""
    return list(SUMS.rows(count, part, seed=1 if part == "test" else 0))


def working(prompt: str) -> Working:
    """The right sums of a problem, from left to right."""
    left, found = int(prompt[0]), []
    for sign, digit in zip(prompt[1:-1:2], prompt[2:-1:2], strict=True):
        step = Step(left, sign, int(digit))
        found.append((step, step.result))
        left = step.result
    return found


def mistaken(right: Working, draw: np.random.Generator) -> Working:
    """One result replaced by a wrong one, from which the rest goes on; all stay in 0 to 9."""
    signs = [(step.sign, step.right) for step, _ in right]
    ways = [
        found
        for at in range(len(right))
        for wrong in range(10)
        if wrong != right[at][1] and (found := _gone_on(right, signs, at, wrong))
    ]
    return ways[int(draw.integers(len(ways)))]


def _gone_on(
    right: Working, signs: Sequence[tuple[str, int]], at: int, wrong: int
) -> Working | None:
    found, left = [*right[:at], (right[at][0], wrong)], wrong
    for sign, number in signs[at + 1 :]:
        step = Step(left, sign, number)
        if not 0 <= step.result <= 9:
            return None
        found.append((step, step.result))
        left = step.result
    return found


def steps(found: Working, draw: np.random.Generator) -> str:
    """Every sum: "3+4=7"."""
    return _joined([f"{_sum(step, draw)}={value}" for step, value in found], found, draw)


def brief(found: Working, draw: np.random.Generator) -> str:
    """The results alone: "7"."""
    return _joined([f"{value}" for _, value in found], found, draw)


def restated(found: Working, draw: np.random.Generator) -> str:
    """What is left of the problem after each sum: "=7-2+1"."""
    rest = [f"{step.sign}{step.right}" for step, _ in found]
    told = [f"={value}{''.join(rest[at + 1 :])}" for at, (_, value) in enumerate(found)]
    return _joined(told, found, draw)


def counted(found: Working, draw: np.random.Generator) -> str:
    """Every sum by counting on or back: "3+4: 4567"."""

    def counting(step: Step, value: int) -> str:
        way = range(step.left, value + 1) if value >= step.left else range(step.left, value - 1, -1)
        return f"{step.left}{step.sign}{step.right}: {''.join(map(str, way))}"

    return _joined([counting(step, value) for step, value in found], found, draw)


def regrouped(found: Working, draw: np.random.Generator) -> str:
    """What is added first, then what is taken away: "3+4=7", "7+1=8", "8-2=6"."""
    moves = [(step.sign, step.right) for step, _ in found]
    ordered = [move for move in moves if move[0] == "+"] + [m for m in moves if m[0] == "-"]
    left, told = found[0][0].left, list[str]()
    for sign, number in ordered:
        step = Step(left, sign, number)
        told.append(f"{_sum(step, draw)}={step.result}")
        left = step.result
    return _joined(told, found, draw)


def chatty(found: Working, draw: np.random.Generator) -> str:
    """Every sum in a sentence: "so 3+4 makes 7"."""
    told = [
        f"{_BEGINS[draw.integers(4)]} {_sum(step, draw)} {_VERBS[draw.integers(3)]} {value}"
        for step, value in found
    ]
    return _joined(told, found, draw)


def explained(found: Working, draw: np.random.Generator) -> str:
    """The answer first, its sums after it."""
    told = steps(found, draw).partition("####")[0]
    return f"#### {found[-1][1]}\n{told.rstrip(' ;,' + chr(10))}"


def answer(found: Working, draw: np.random.Generator) -> str:
    """The answer alone."""
    del draw
    return f"#### {found[-1][1]}"


STYLES: dict[str, Style] = {
    each.__name__: each
    for each in (steps, brief, restated, counted, regrouped, chatty, explained, answer)
}


def _sum(step: Step, draw: np.random.Generator) -> str:
    if step.sign == "+" and draw.random() < _TURNED:
        return f"{step.right}+{step.left}"
    return f"{step.left}{step.sign}{step.right}"


def _joined(told: Sequence[str], found: Working, draw: np.random.Generator) -> str:
    marks = draw.choice(len(_MARKS), size=len(told), p=_SHARES)
    text = "".join(each + _MARKS[mark] for each, mark in zip(told, marks, strict=True))
    return f"{text}#### {found[-1][1]}"


def solved(rows: Sequence[Row], style: Style, wrong: float, seed: int) -> list[Row]:
    """The rows with workings of a style, a share of them with a mistake."""
    draw, found = np.random.default_rng(seed), list[Row]()
    for at, row in enumerate(rows):
        assert row.prompt is not None
        told = working(row.prompt)
        if draw.random() < wrong:
            told = mistaken(told, draw)
        found.append(Row(at, row.place, prompt=row.prompt, completion=style(told, draw)))
    return found


def right(rows: Sequence[Row], written: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Which responses end in the right answer, [n, k] of 0 and 1."""
    return np.array(
        [
            [float(final_answer(text) == row.answer) for text in texts]
            for row, texts in zip(rows, written, strict=True)
        ]
    )


def answered(rows: Sequence[Row], written: Sequence[Sequence[str]], first: int) -> list[Row]:
    """A row a response, the first `first` of each prompt; a row's number is its prompt's.

    An empty response stands as a line break, for a response has a token.
    """
    return [
        Row(at, f"prompt {at + 1}, response {k + 1}", prompt=row.prompt, completion=text or "\n")
        for at, (row, texts) in enumerate(zip(rows, written, strict=True))
        for k, text in enumerate(texts[:first])
    ]


def general(count: int, seed: int) -> list[Row]:
    """What everybody reads before anything else, as a pretrained model has read of everything.

    Half of it are copies, running sums, counting and words; half are problems of two or of three
    sums, in all styles alike, three in ten with a mistake.
    """
    draw = np.random.default_rng(seed)
    read = [*_SHORTER.rows(600, "train"), *SUMS.rows(600, "train", _OTHER)]
    prompts = [row.prompt or "" for row in read]
    texts = (_worked(prompts, draw) if at % 2 else _plain(draw) for at in range(count))
    return [Row(at, f"general text {at + 1}", text=text) for at, text in enumerate(texts)]


def _worked(prompts: Sequence[str], draw: np.random.Generator) -> str:
    prompt, styles = prompts[int(draw.integers(len(prompts)))], [*STYLES.values()]
    told = working(prompt)
    if draw.random() < _MISTAKEN:
        told = mistaken(told, draw)
    return prompt + styles[int(draw.integers(len(styles)))](told, draw)


def _plain(draw: np.random.Generator) -> str:
    others = (_running, _counting, _words)
    pieces = [_copied(draw), _running(draw), others[int(draw.integers(3))](draw)]
    marks = draw.choice([*_MARKS, ". "], 3).tolist()
    return "".join(pieces[at] + mark for at, mark in zip(draw.permutation(3), marks, strict=True))


def _running(draw: np.random.Generator) -> str:
    """ "8-2:6+1:7-7:0" """
    left = int(draw.integers(10))
    told = f"{left}"
    for _ in range(3):
        to = int(draw.integers(10))
        told += f"+{to - left}:{to}" if to >= left else f"-{left - to}:{to}"
        left = to
    return told


def _copied(draw: np.random.Generator) -> str:
    """ "3+4-2-1 3+4-2-1 3+4-2-1" """
    numbers, signs = draw.integers(0, 10, 4).tolist(), draw.choice(["+", "-"], 3).tolist()
    told = str(numbers[0]) + "".join(s + str(n) for s, n in zip(signs, numbers[1:], strict=True))
    return f"{told} {told} {told}"


def _counting(draw: np.random.Generator) -> str:
    """ "count 3456" """
    first, last = draw.integers(0, 10, 2).tolist()
    way = range(first, last + 1) if last >= first else range(first, last - 1, -1)
    return "count " + "".join(map(str, way))


def _words(draw: np.random.Generator) -> str:
    """ "makes so next" """
    return " ".join(draw.choice([*_BEGINS, *_VERBS], 3).tolist())
