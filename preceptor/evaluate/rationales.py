"""Whether a model reasons as its teacher does: the steps it writes, and its words.

Two texts on one kind of question share words whatever they say, so each measure stands beside its
floor: the same with the teacher's text to another item.

Dimension key: n items.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from preceptor.ops.editing import edit_similarity

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


def step_f1(own: Sequence[str], teacher: Sequence[str]) -> Float[np.ndarray, " n"]:
    """2 shared / (own + teacher's) of the steps of each two texts; 1 where neither has any.

    >>> step_f1(["1 + 1 = 2"], ["1 + 1 = 2, 2 + 2 = 4"]).round(3)
    array([0.667])
    """
    pairs = [(steps(a), steps(b)) for a, b in zip(own, teacher, strict=True)]
    return np.array([2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0 for a, b in pairs])


def follows_steps(texts: Sequence[str], finals: Sequence[str]) -> Float[np.ndarray, " n"] | None:
    """1 where the answer is the result of the text's last equation before it; None without any.

    Texts without an equation, or whose answer is no number, count as not following.
    """
    found = [_EQUATION.findall(text) for text in texts]
    if not any(found):
        return None
    return np.array(
        [
            float(bool(each) and _same(each[-1][1], final))
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
