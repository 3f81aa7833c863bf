"""What speaks for or against a teacher, before and after: findings, each in a sentence or two.

Every function looks at answers to the same items and compares what it sees with its own 95 %
interval, so that a finding is not made of noise.

Dimension key: n items, v classes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from preceptor.ops.calibration import TEMPERATURES, fit_temperature, log_probabilities
from preceptor.ops.proportions import tango, wilson
from preceptor.ops.resampling import t_interval

FEWEST = 20
"""Items below which nothing is said."""

OVER = 0.02
"""How far confidence may lie above accuracy before it is called too high."""

RENAMED = 0.1
"""How much accuracy other names for the classes must bring."""

COVERED = 0.5
"""The share of a teacher's probability below which its student would hardly ever write as it."""

FAR = 10
"""Times a student's parameters from which a teacher may be too far ahead."""

_SHOWN = 3
Kind = Literal["lead", "label order", "confidence", "capacity", "data", "cover", "support"]


@dataclass(frozen=True)
class Finding:
    """Something about a teacher and its student that a user should know.

    Args:
        kind: what it is about.
        seen: what was seen, in a sentence.
        advice: what to do, in a sentence; empty where all is well.
        against: whether it speaks against distilling from this teacher as it is.
    """

    kind: Kind
    seen: str
    advice: str = ""
    against: bool = False

    def __str__(self) -> str:
        return f"{self.seen} {self.advice}".rstrip()


def lead(
    teacher: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"], called: str
) -> Finding | None:
    """Whether the teacher is better than `called` on these items; None where they are too few."""
    if len(teacher) < FEWEST:
        return None
    seen = t_interval(teacher.astype(float) - other.astype(float))
    words = (
        f"On {len(teacher)} items the teacher is right on {teacher.mean():.1%}, {called} on "
        f"{other.mean():.1%}: a lead of {100 * seen.estimate:+.1f} points "
        f"({100 * seen.low:+.1f} to {100 * seen.high:+.1f})."
    )
    return leading(seen.low, seen.high, words)


def leading(low: float, high: float, words: str) -> Finding:
    """What a teacher's lead comes to, in any measure: its limits, positive where it is better."""
    if high < 0:
        advice = "Do not distil from it: choose a teacher that knows this data better."
        return Finding("lead", words, advice, against=True)
    if low <= 0:
        advice = (
            "No lead is seen. Its probabilities may still tell more than labels do, but there is "
            "no gap to close: try a better teacher, or none."
        )
        return Finding("lead", words, advice)
    return Finding("lead", words)


def label_order(
    logits: Float[np.ndarray, "n v"], labels: Int[np.ndarray, " n"], classes: tuple[str, ...]
) -> Finding | None:
    """Whether the teacher's classes stand in another order than the data's; None where not.

    Every second item of a class says which of the teacher's classes goes best with which of the
    data's (an assignment of most hits); the others say what these names are worth.
    """
    said = np.asarray(logits).argmax(axis=-1)
    if len(labels) < 2 * FEWEST:
        return None
    by_class = np.argsort(labels, kind="stable")
    first, second = by_class[::2], by_class[1::2]
    hits = np.zeros((len(classes), len(classes)))
    np.add.at(hits, (said[first], labels[first]), 1.0)
    _, renamed = linear_sum_assignment(hits, maximize=True)
    plain, better = (name[second] == labels[second] for name in (said, renamed[said]))
    gained = tango(int((better & ~plain).sum()), int((plain & ~better).sum()), len(plain))
    if gained.low <= 0 or gained.estimate < RENAMED:
        return None
    moved = [k for k, other in enumerate(renamed) if k != other and (said == k).any()]
    names = [f"its {classes[k]!r} is the data's {classes[renamed[k]]!r}" for k in moved[:_SHOWN]]
    more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
    return Finding(
        "label order",
        f"The teacher is right on {plain.mean():.1%} of the items, and on {better.mean():.1%} with "
        f"its classes renamed (more by {100 * gained.low:.1f} to {100 * gained.high:.1f} points): "
        f"{', '.join(names)}{more}.",
        "It was trained with the classes in another order: reorder its last layer, or the labels.",
        against=True,
    )


def of_answers(
    logits: Float[np.ndarray, "n v"], labels: Int[np.ndarray, " n"], classes: tuple[str, ...]
) -> tuple[Finding, ...]:
    """What a teacher's answers say of it; of its confidence nothing in another order of classes."""
    moved = label_order(logits, labels, classes)
    found = confidence(logits, labels) if moved is None else moved
    return () if found is None else (found,)


def confidence(logits: Float[np.ndarray, "n v"], labels: Int[np.ndarray, " n"]) -> Finding | None:
    """Whether the teacher is surer than it may be; None where that is not seen.

    Nor is anything said of one that is not seen to be better than chance, which is how often its
    answers, drawn anew as often as it gives each, would be right.
    """
    if len(labels) < FEWEST:
        return None
    logp = log_probabilities(logits)
    answers = logp.argmax(axis=-1)
    right = answers == labels
    said, asked = (np.bincount(each, minlength=logp.shape[1]) for each in (answers, labels))
    chance = float(said @ asked) / len(labels) ** 2
    if wilson(int(right.sum()), len(right)).low <= chance:
        return None
    sure = np.exp(logp.max(axis=-1))
    over = t_interval(sure - right)
    if over.low <= OVER:
        return None
    best = fit_temperature(logits, labels)
    return Finding(
        "confidence",
        f"The teacher is over-confident: it gives its answers {sure.mean():.1%} and is right on "
        f"{right.mean():.1%} (more by {100 * over.low:.1f} to {100 * over.high:.1f} points).",
        _calibrated("items", best, "distil at that or more"),
    )


def _calibrated(on: str, temperature: float, advice: str) -> str:
    most = TEMPERATURES[1]
    if temperature > 0.99 * most:
        return f"No temperature up to {most:.0f} calibrates it on these {on}."
    return f"On these {on} it is calibrated at a temperature of {temperature:.2g}: {advice}."


def token_lead(
    teacher: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"], called: str
) -> Finding | None:
    """Whether a language model predicts some rows better than `called`: nats a token of each."""
    if len(teacher) < FEWEST:
        return None
    seen = t_interval(other - teacher)
    words = (
        f"On {len(teacher)} rows the teacher needs {teacher.mean():.3f} nats a token, {called} "
        f"{other.mean():.3f}: a lead of {seen.estimate:+.3f} ({seen.low:+.3f} to {seen.high:+.3f})."
    )
    return leading(seen.low, seen.high, words)


def token_confidence(
    over: Float[np.ndarray, " n"], right: float, temperature: float | None = None
) -> Finding | None:
    """Whether a teacher is surer of the next token than it may be; None where that is not seen.

    Args:
        over: how far its confidence lies above its accuracy, row by row.
        right: how often its likeliest token stands there.
        temperature: at which it is calibrated; None where nobody fitted one.
    """
    if len(over) < FEWEST:
        return None
    seen = t_interval(over)
    if seen.low <= OVER:
        return None
    words = (
        f"The teacher is over-confident: it gives its likeliest token {right + seen.estimate:.1%} "
        f"and is right on {right:.1%} (more by {100 * seen.low:.1f} to {100 * seen.high:.1f} "
        "points)."
    )
    if temperature is None:
        return Finding("confidence", words, "Distil at a temperature above 1.")
    return Finding("confidence", words, _calibrated("rows", temperature, "distil at it"))


def support(
    mass: Float[np.ndarray, " n"], overlap: float, places: int, *, writes: bool
) -> Finding | None:
    """Whether a student that writes would come upon what its teacher would say.

    What it is taught on its own text it learns only there: where its likeliest tokens hold little
    of the teacher's probability, such a stage has nothing to begin with (Rishabh Agarwal et al.,
    "On-Policy Distillation of Language Models", ICLR 2024, start from a student that was trained).

    Args:
        mass: the teacher's probability of the student's likeliest tokens, row by row.
        overlap: the share of the teacher's likeliest tokens among the student's.
        places: how many tokens are looked at.
        writes: whether it is to learn from its own text; advice is given only then.
    """
    if len(mass) < FEWEST:
        return None
    seen = t_interval(mass)
    words = (
        f"Of the teacher's probability {seen.estimate:.1%} ({max(0.0, seen.low):.1%} to "
        f"{min(1.0, seen.high):.1%}) lies on the student's {places} likeliest tokens; of the "
        f"teacher's {places} likeliest {overlap:.1%} are among them."
    )
    if seen.high >= COVERED or not writes:
        return Finding("support", words)
    advice = (
        "The student would hardly write what its teacher would: begin with the data or with text "
        "that the teacher wrote, and let it write itself in a later stage."
    )
    return Finding("support", words, advice)


def far_ahead(ratio: float) -> Finding | None:
    """Whether a teacher is so much larger that a student may not follow; None where it is not."""
    if ratio < FAR:
        return None
    return Finding(
        "capacity",
        f"The teacher has {ratio:.0f} times the student's parameters.",
        "From about ten times on a smaller teacher, or an assistant between, often teaches better "
        "(Mirzadeh et al., AAAI 2020): try one as a variant.",
    )


def cover(
    trained: Int[np.ndarray, " k"], tested: Int[np.ndarray, " n"], classes: tuple[str, ...]
) -> Finding | None:
    """Classes that are tested and of which the student sees no example; None where there are none.

    Args:
        trained: the classes of what the student sees, by label or, unlabelled, by the teacher's
            answer.
        tested: the test items' labels.
        classes: their names.
    """
    missing = sorted(set(tested.tolist()) - set(trained.tolist()))
    if not missing:
        return None
    share = np.isin(tested, missing).mean()
    names = ", ".join(repr(classes[k]) for k in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return Finding(
        "cover",
        f"{share:.1%} of the test items are of classes of which the student sees no example: "
        f"{names}{more}.",
        "Only the teacher's small probabilities speak of them: add examples, or expect little.",
    )
