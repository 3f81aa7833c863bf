"""What a report says class by class: accuracies, agreements, reliability.

Dimension key: s seeds, n items, v classes.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from preceptor.evaluate.confidences import pooled
from preceptor.evaluate.measures import unit_of
from preceptor.evaluate.report import (
    ClassReport,
    Matrix,
    Measured,
    ReliabilityCurve,
    Undefined,
    Value,
)
from preceptor.evaluate.results import RunResult
from preceptor.evaluate.scores import Scores, agreements, class_agreement, good_of
from preceptor.evaluate.significance import gap, means
from preceptor.ops.calibration import reliability
from preceptor.ops.linearised import ratio_of_some
from preceptor.ops.resampling import Crossed

SHOWN_CLASSES = 100


def class_reports(
    result: RunResult, scores: dict[str, Scores], generator: np.random.Generator
) -> tuple[ClassReport, ...]:
    """Each class's accuracy and gain; items are resampled within each class."""
    names = result.classes
    return tuple(
        _slice(name, result.labels == k, result, scores, generator) for k, name in enumerate(names)
    )


def slice_reports(
    result: RunResult, scores: dict[str, Scores], generator: np.random.Generator
) -> dict[str, tuple[ClassReport, ...]]:
    """The same for each value of each column by which the run is to be looked at."""
    found = {}
    for column, values in result.slices.items():
        each = np.array(values)
        found[column] = tuple(
            _slice(name, each == name, result, scores, generator)
            for name in sorted(dict.fromkeys(values))
        )
    return found


def _slice(
    name: str,
    member: Bool[np.ndarray, " n"],
    result: RunResult,
    scores: dict[str, Scores],
    generator: np.random.Generator,
) -> ClassReport:
    count = int(member.sum())
    if count == 0:
        return ClassReport(name, 0, {}, {}, Undefined("no test item is of this class"))
    student, control = result.student.name, result.student.versus
    shown = [result.teacher.name] if result.teacher else []
    shown += [each for each in (student, control) if each in scores]
    clusters = np.array(result.clusters)[member] if result.clusters else None
    seeds = len(result.student.seeds)
    crossed = Crossed(seeds, count, generator, clusters=clusters)
    sizes = result.student.seeds[0].sizes if result.primary == "bits_per_byte" else None
    good = {each: _part(good_of(scores[each], result.primary), member, sizes) for each in shown}
    gain: Measured = Undefined("there is no control")
    if control in good:
        gain = gap(good[student], good[control], crossed, result.primary)
    return ClassReport(
        name,
        count,
        {each: _mean(scores[each], result.primary, member, crossed, sizes) for each in shown},
        {
            each: _mean(scores[each], "agreement", member, crossed, None)
            for each in shown
            if scores[each].has("agreement")
        },
        gain,
    )


def _part(
    columns: Any, member: Bool[np.ndarray, " n"], sizes: Float[np.ndarray, " n"] | None
) -> Any:
    """Some items' part of a measure [s, n]; of bits a byte they have bytes of their own."""
    if sizes is None:
        return columns[:, member]
    return np.stack([ratio_of_some(column, sizes, member) for column in columns])


def _mean(
    scores: Scores,
    measure: str,
    member: Bool[np.ndarray, " n"],
    crossed: Crossed,
    sizes: Float[np.ndarray, " n"] | None,
) -> Value:
    column = _part(scores.by_item[measure], member, sizes)
    return means({measure: column}, {measure: unit_of(measure)}, crossed)[measure]


def agreement_by_class(result: RunResult, scores: dict[str, Scores]) -> Matrix | Undefined:
    """How often the student answers one class where the teacher answers another."""
    if result.teacher is None:
        return Undefined("There is no teacher to agree with.")
    if len(result.classes) > SHOWN_CLASSES:
        return Undefined(
            f"{len(result.classes)} classes are more than a picture holds ({SHOWN_CLASSES})."
        )
    teacher = scores[result.teacher.name].answered
    student = scores[result.student.name].answered
    if teacher is None or student is None or not result.classes:
        return Undefined("What writes text has no classes to agree on.")
    values = class_agreement(teacher, student, len(result.classes))
    return Matrix(
        title="Where the teacher answers a row's class, how often the student answers a column's",
        rows=result.classes,
        columns=result.classes,
        values=tuple(tuple(map(float, row)) for row in values),
    )


def agreement_of_models(scores: dict[str, Scores]) -> Matrix | Undefined:
    """How often each two models give one answer."""
    names = tuple(scores)
    answered = [each.answered for each in scores.values() if each.answered]
    if len(answered) < len(names):
        return Undefined("What these models write is not compared answer by answer.")
    return Matrix(
        title="How often two models give one answer, under one seed",
        rows=names,
        columns=names,
        values=tuple(map(tuple, agreements(answered))),
    )


def reliability_curves(
    result: RunResult, scores: dict[str, Scores]
) -> tuple[ReliabilityCurve, ...]:
    """Confidence and accuracy in ten bins of equal mass, all seeds pooled; of whom it is known.

    Of what predicts text they are of its next tokens.
    """
    found: list[ReliabilityCurve] = []
    for arm in result.everybody:
        told = [one.reliability for one in arm.seeds if one.reliability is not None]
        own = scores[arm.name].answered
        if own is not None and own.confidence is not None:
            found.append(_curve(arm.name, own.confidence, own.hit))
        elif len(told) == len(arm.seeds):
            found.append(pooled(arm.name, told))
    return tuple(found)


def _curve(
    name: str, confidence: Float[np.ndarray, "s n"], hit: Bool[np.ndarray, "s n"]
) -> ReliabilityCurve:
    points = reliability(confidence.ravel(), hit.ravel(), bins=10)
    return ReliabilityCurve(
        arm=name,
        confidence=tuple(points.confidence.tolist()),
        accuracy=tuple(points.accuracy.tolist()),
        count=tuple(points.count.tolist()),
    )
