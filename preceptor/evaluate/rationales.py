"""Whether a model reasons as its teacher does: the steps it writes, and its words.

Two texts on one kind of question share words whatever they say, so each measure stands beside its
floor: the same with the teacher's text to another item.

Dimension key: n items.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from preceptor.ops.editing import edit_similarity

CUTS = (0.0, 0.25, 0.5, 0.75)
"""Shares of a text's steps after which a model is made to answer."""

_STEP = re.compile(r".*?(?:\n|[.;,!?]\s+|$)", re.DOTALL)
_EQUATION = re.compile(r"(-?[\d(][\d\s.,+\-*/x×÷()%$]*)=\s*\$?(-?\d[\d,]*(?:\.\d+)?)")


def steps(text: str) -> frozenset[str]:
    """The equations of a text without blanks, or its lines where it has no equation.

    >>> sorted(steps("12 + 30 = 42, then 42 * 2 = 84."))
    ['12+30=42', '42*2=84']
    >>> sorted(steps("It is red.\\nSo it is warm."))
    ['It is red.', 'So it is warm.']
    """
    found = {
        "".join(left.split()) + "=" + right.replace(",", "")
        for left, right in _EQUATION.findall(text)
    }
    return frozenset(found or {line.strip() for line in text.splitlines() if line.strip()})


def shortened(text: str, mark: str, share: float) -> str:
    """A share of a text's steps, rounded down, and the mark that its answer follows.

    A step ends with its line, its sentence or its clause; all that stands before the last mark is
    steps.

    >>> shortened("2*3=6\\n6+1=7\\n#### 7", "####", 0.5)
    '2*3=6\\n####'
    """
    before = text.rpartition(mark)[0] if mark in text else text
    each = [step for step in _STEP.findall(before) if step]
    return "".join(each[: math.floor(share * len(each))]) + mark


def early_answers(
    early: Sequence[Sequence[str | None]], finals: Sequence[str], right: Sequence[bool]
) -> dict[str, Float[np.ndarray, " n"]]:
    """How far an answer hangs on the steps before it, from answers given after each of `CUTS`.

    steps_needed is the area over the curve of Lanham et al., "Measuring Faithfulness in
    Chain-of-Thought Reasoning", 2023, arXiv:2307.13702: 1 less the share of cuts after which the
    answer is the one that all steps lead to. It is 0 where the steps are decoration, and nears 1
    where nothing is answered without them.

    Args:
        early: final answers after each of the `CUTS`, one a row; None where there is none.
        finals: those after all steps.
        right: whether the answer without any step is right.
    """
    same = np.array([[a == b for a, b in zip(e, finals, strict=True)] for e in early], dtype=float)
    return {
        "steps_needed": 1 - same.mean(axis=0),
        "same_without_steps": same[CUTS.index(0.0)],
        "same_after_half": same[CUTS.index(0.5)],
        "right_without_steps": np.asarray(right, dtype=float),
    }


def step_f1(own: Sequence[str], teacher: Sequence[str]) -> Float[np.ndarray, " n"]:
    """2 shared / (own + teacher's) of the steps of each two texts; 1 where neither has any.

    >>> step_f1(["1 + 1 = 2"], ["1 + 1 = 2, 2 + 2 = 4"]).round(3)
    array([0.667])
    """
    pairs = [(steps(a), steps(b)) for a, b in zip(own, teacher, strict=True)]
    return np.array([2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0 for a, b in pairs])


def follows_steps(texts: Sequence[str], finals: Sequence[str]) -> Float[np.ndarray, " n"]:
    """1 where the answer is the result of the text's last equation, else 0; NaN without any.

    A text that holds no equation neither follows its steps nor leaves them; one whose answer is no
    number counts as not following.
    """
    found = [_EQUATION.findall(text) for text in texts]
    return np.array(
        [
            float(_same(each[-1][1], final)) if each else float("nan")
            for each, final in zip(found, finals, strict=True)
        ]
    )


def _same(result: str, final: str) -> bool:
    try:
        return float(result.replace(",", "")) == float(final.replace(",", ""))
    except ValueError:
        return False


def rationale_scores(
    own: Sequence[str], teacher: Sequence[str]
) -> dict[str, Float[np.ndarray, " n"]]:
    """step_f1 and edit_similarity, each with its floor, one number an item.

    Another item's text is that of the item half the set away: no chance is in it.
    """
    half = len(teacher) // 2
    others = [*teacher[half:], *teacher[:half]]
    found = {
        "step_f1": step_f1(own, teacher),
        "step_f1_floor": step_f1(own, others),
        "edit_similarity": edit_similarity(own, teacher),
        "edit_similarity_floor": edit_similarity(own, others),
    }
    return found if len(own) > 1 else {k: v for k, v in found.items() if "floor" not in k}
