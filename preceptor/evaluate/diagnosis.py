"""What speaks for or against a teacher, before and after: findings, each in a sentence or two.

Every function looks at answers to the same items and compares what it sees with its own 95 %
interval, so that a finding is not made of noise.

Dimension key: n items, v classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from preceptor.evaluate.numerals import percent, plain, signed
from preceptor.ops.calibration import (
    TEMPERATURES,
    at_edge,
    log_probabilities,
    temperature_interval,
)
from preceptor.ops.hypotheses import seen_within
from preceptor.ops.proportions import tango, wilson
from preceptor.ops.resampling import Interval, t_interval

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
_FOLLOWING: frozenset[Kind] = frozenset({"confidence", "capacity", "data", "support"})
"""Findings whose advice is how to follow the teacher."""


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
        f"On {len(teacher)} validation items the teacher is right on {percent(teacher.mean())}, "
        f"{called} on {percent(other.mean())}: a lead of {signed(100 * seen.estimate, 1)} points "
        f"({signed(100 * seen.low, 1)} to {signed(100 * seen.high, 1)})."
    )
    faultless = bool(teacher.all() and other.all())
    return leading(seen.low, seen.high, words, faultless=faultless)


def leading(
    low: float, high: float, words: str, unit: str = "points", *, faultless: bool = False
) -> Finding:
    """What a teacher's lead comes to, in any measure: its limits, positive where it is better.

    A lead that is not shown may be there all the same: what it may be, and what would have shown,
    stand beside it. `unit` is "points", for which limits are shares, or that of the limits. Where
    both are `faultless`, no teacher could be better: only harder items would tell.
    """
    if faultless:
        advice = "Both are right on every item, so no lead can show: test on harder ones."
        return Finding("lead", words, advice)
    if high < 0:
        advice = "Do not distil from it: choose a teacher that knows this data better."
        return Finding("lead", words, advice, against=True)
    if low <= 0:
        most, least = (_in_unit(each, unit) for each in (high, seen_within(low, high)))
        advice = (
            f"No lead is shown, nor is one ruled out: it may be as much as {most}, and one of "
            f"{least} would have shown four times in five. Test on more items, under more seeds, "
            "or try a better teacher."
        )
        return Finding("lead", words, advice)
    return Finding("lead", words)


def _in_unit(number: float, unit: str) -> str:
    return f"{plain(100 * number, 1)} points" if unit == "points" else f"{plain(number, 3)} {unit}"


def settled(found: Iterable[Finding | None]) -> tuple[Finding, ...]:
    """What was found, its lead first; no advice how to follow a teacher that shows none.

    What a finding saw stands as it is; so does what is to be mended before any lead can show.
    """
    there = sorted((each for each in found if each is not None), key=_is_no_lead)
    if not any(each.kind == "lead" and each.advice for each in there):
        return tuple(there)
    first = "Whether this teacher is worth following comes first: see its lead."
    return tuple(
        replace(one, advice=first) if one.advice and one.kind in _FOLLOWING else one
        for one in there
    )


def _is_no_lead(found: Finding) -> bool:
    return found.kind != "lead"


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
    as_said, better = (name[second] == labels[second] for name in (said, renamed[said]))
    won, lost = int((better & ~as_said).sum()), int((as_said & ~better).sum())
    gained = tango(won, lost, len(better))
    if gained.low <= 0 or gained.estimate < RENAMED:
        return None
    moved = [k for k, other in enumerate(renamed) if k != other and (said == k).any()]
    names = [f"its {classes[k]!r} is the data's {classes[renamed[k]]!r}" for k in moved[:_SHOWN]]
    more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
    return Finding(
        "label order",
        f"The teacher is right on {percent(as_said.mean())} of the validation items, and on "
        f"{percent(better.mean())} with its classes renamed (more by {_between(gained)} points): "
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
    best = temperature_interval(logits, labels)
    return Finding(
        "confidence",
        f"The teacher is over-confident: on the {len(labels)} validation items it gives its "
        f"answers {percent(sure.mean())} and is right on {percent(right.mean())} (more by "
        f"{_between(over)} points).",
        _calibrated("items", best, "distil at that or more"),
    )


def _between(limits: Interval) -> str:
    return f"{plain(100 * limits.low, 1)} to {plain(100 * limits.high, 1)}"


def _calibrated(on: str, temperature: Interval, advice: str) -> str:
    most = TEMPERATURES[1]
    if at_edge(temperature.estimate):
        return f"No temperature up to {most:.0f} calibrates it on these {on}."
    above = f"{temperature.high:.2g}" if temperature.high < most else f"above {most:.0f}"
    return (
        f"On these {on} it is calibrated at a temperature of {temperature.estimate:.2g} "
        f"({temperature.low:.2g} to {above}): {advice}."
    )


def token_lead(
    teacher: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"], called: str
) -> Finding | None:
    """Whether a language model predicts some rows better than `called`: nats a token of each."""
    if len(teacher) < FEWEST:
        return None
    seen = t_interval(other - teacher)
    words = (
        f"On {len(teacher)} held-out rows the teacher needs {teacher.mean():.3f} nats a token, "
        f"{called} {other.mean():.3f}: a lead of {signed(seen.estimate, 3)} "
        f"({signed(seen.low, 3)} to {signed(seen.high, 3)})."
    )
    return leading(seen.low, seen.high, words, "nats")


def token_confidence(
    over: Float[np.ndarray, " n"], right: float, temperature: Interval | None = None
) -> Finding | None:
    """Whether a teacher is surer of the next token than it may be; None where that is not seen.

    Args:
        over: how far its confidence lies above its accuracy, row by row.
        right: how often its likeliest token stands there.
        temperature: at which it is calibrated, with its limits; None where nobody fitted one.
    """
    if len(over) < FEWEST:
        return None
    seen = t_interval(over)
    if seen.low <= OVER:
        return None
    words = (
        f"The teacher is over-confident: on {len(over)} rows it gives its likeliest token "
        f"{percent(right + seen.estimate)} and is right on {percent(right)} (more by "
        f"{_between(seen)} points)."
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
        f"Of the teacher's probability {percent(seen.estimate)} "
        f"({plain(100 * max(0.0, seen.low), 1)} to {plain(100 * min(1.0, seen.high), 1)}) lies on "
        f"the student's {places} likeliest tokens; of the teacher's {places} likeliest "
        f"{percent(overlap)} are among them."
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
    share = float(np.isin(tested, missing).mean())
    names = ", ".join(repr(classes[k]) for k in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return Finding(
        "cover",
        f"{percent(share)} of the test items are of classes of which the student sees no example: "
        f"{names}{more}.",
        "Only the teacher's small probabilities speak of them: add examples, or expect little.",
    )
