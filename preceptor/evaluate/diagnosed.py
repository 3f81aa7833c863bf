"""The diagnosis of a finished run: what its models' answers say of teacher and student.

Dimension key: n items.
"""

from collections.abc import Iterator

import numpy as np

from preceptor.evaluate.diagnosis import (
    Finding,
    confidence,
    label_order,
    leading,
    room,
    token_confidence,
)
from preceptor.evaluate.report import Report, Value
from preceptor.evaluate.results import ArmResult, RunResult
from preceptor.evaluate.verdict import MIN_SEEDS
from preceptor.evaluate.words import in_words


def diagnosed(result: RunResult, report: Report) -> tuple[Finding, ...]:
    """Everything that was found, what was known before the run first."""
    return (*result.findings, *_found(result, report))


def _found(result: RunResult, report: Report) -> Iterator[Finding]:
    teacher = result.teacher
    if teacher is None:
        return
    lead = report.gap
    # Two seeds alone leave an interval that says nothing, and no advice follows from it.
    told = len(report.seeds) == 1 or len(report.seeds) >= MIN_SEEDS
    if told and isinstance(lead, Value) and lead.low is not None and lead.high is not None:
        words = f"The teacher's lead over the control is {in_words(lead)}."
        yield leading(lead.low, lead.high, words)
    held = teacher.seeds[0].validation
    if held is not None:
        found = (
            label_order(held.logits, held.labels, result.classes),
            confidence(held.logits, held.labels),
        )
        yield from (each for each in found if each is not None)
    one = teacher.seeds[0].items
    found = _room(result, teacher)
    if found is not None:
        yield found
    if "token_overconfidence" in one:
        right = float(np.mean(one["token_accuracy"]))
        sure = token_confidence(np.asarray(one["token_overconfidence"]), right)
        yield from [] if sure is None else [sure]


def _room(result: RunResult, teacher: ArmResult) -> Finding | None:
    """How the first seed's student answers beside its teacher, where it was taught and not."""
    student, master = result.student.seeds[0], teacher.seeds[0]
    ratio = teacher.cost.parameters / max(1, result.student.cost.parameters)
    own, theirs = student.train, master.train
    if student.logits is None or master.logits is None:
        if (
            own is None
            or "token_agreement" not in student.items
            or "token_agreement" not in own.items
        ):
            return None
        taught, held = (np.asarray(each.items["token_agreement"]) for each in (own, student))
        return room(taught, held, ratio, "of the tokens that")
    if own is None or theirs is None or own.logits is None or theirs.logits is None:
        return None
    taught = own.logits.argmax(axis=-1) == theirs.logits.argmax(axis=-1)
    held = student.logits.argmax(axis=-1) == master.logits.argmax(axis=-1)
    return room(taught, held, ratio)
