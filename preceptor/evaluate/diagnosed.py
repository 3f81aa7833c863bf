"""The diagnosis of a finished run: what its models' answers say of teacher and student."""

from collections.abc import Iterator

import numpy as np

from preceptor.evaluate.diagnosis import (
    FEWEST,
    Finding,
    leading,
    of_answers,
    settled,
    token_confidence,
)
from preceptor.evaluate.report import Report, Value
from preceptor.evaluate.results import ArmResult, RunResult
from preceptor.evaluate.words import in_words

ALIKE = 0.9
"""The share of taught examples on which a student that has room for its teacher answers alike."""

APART = 0.05
"""How far agreement may fall from taught to held-out examples."""


def diagnosed(result: RunResult, report: Report) -> tuple[Finding, ...]:
    """Everything that was found, what was known before the run first."""
    return settled((*result.findings, *_found(result, report)))


def _found(result: RunResult, report: Report) -> Iterator[Finding]:
    teacher = result.teacher
    if teacher is None:
        return
    lead = report.gap
    if isinstance(lead, Value) and lead.low is not None and lead.high is not None:
        words = f"The teacher's lead over the control is {in_words(lead)}."
        unit = "points" if lead.unit == "difference" else lead.unit.removesuffix(" gained")
        yield leading(lead.low, lead.high, words, unit, faultless=_faultless(report, teacher.name))
    held = teacher.seeds[0].validation
    if held is not None:
        yield from of_answers(held.logits, held.labels, result.classes)
    one = teacher.seeds[0].items
    found = _room(result, teacher, report)
    if found is not None:
        yield found
    if "token_overconfidence" in one:
        right = float(np.mean(one["token_accuracy"]))
        sure = token_confidence(np.asarray(one["token_overconfidence"]), right)
        yield from [] if sure is None else [sure]


def _faultless(report: Report, teacher: str) -> bool:
    """Whether teacher and control are right on every item."""
    found = (
        report.arm(name).measures[report.primary] for name in (teacher, report.control) if name
    )
    rates = [one for one in found if isinstance(one, Value) and one.unit == "fraction"]
    return bool(rates) and all(one.estimate == 1 for one in rates)


def _room(result: RunResult, teacher: ArmResult, report: Report) -> Finding | None:
    """How the student answers beside its teacher where it was taught and not, as in the table."""
    ratio = teacher.cost.parameters / max(1, result.student.cost.parameters)
    tokens = result.student.seeds[0].logits is None
    name, of = ("token_agreement", "of the tokens that") if tokens else ("agreement", "of what")
    measures = report.arm(report.student).measures
    taught, held = measures.get(f"train_{name}"), measures.get(name)
    if not isinstance(taught, Value) or not isinstance(held, Value):
        return None
    return room(taught, held, ratio, of)


def room(taught: Value, held: Value, ratio: float, of: str = "of what") -> Finding | None:
    """Why a student answers otherwise than its teacher: no room for it, or too few examples.

    Stanton et al. (2021), section 5: a student that cannot copy its teacher even where it was
    taught has an optimisation problem; one that does there and not elsewhere has too little data.

    Args:
        taught: how often it answers as its teacher does, of examples that it was taught on.
        held: the same of examples that it never saw.
        ratio: the teacher's parameters over the student's.
        of: what is counted: "of what", or of its tokens.
    """
    if min(taught.n, held.n) < FEWEST or taught.low is None or taught.high is None:
        return None
    if held.high is None:
        return None
    words = (
        f"The student answers as its teacher does on {in_words(taught)} {of} it was taught on and "
        f"on {in_words(held)} {of} it never saw."
    )
    if taught.high < ALIKE:
        way = (
            f"Its teacher has {ratio:.0f} times its parameters: try an assistant of a size between,"
            if ratio >= 2
            else "It has about its teacher's size: try"
        )
        advice = f"It does not copy even what it was shown. {way} more steps, or a gentler rate."
        return Finding("capacity", words, advice)
    if taught.low - held.high > APART:
        advice = "It has room for its teacher and too few examples: add some, labels or not."
        return Finding("data", words, advice)
    return None
