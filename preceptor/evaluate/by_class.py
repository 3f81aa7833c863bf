"""What a report says class by class: accuracies, agreements, reliability.

Dimension key: s seeds, n items, v classes.
"""

import numpy as np

from preceptor.evaluate.report import (
    ClassReport,
    Matrix,
    Measured,
    ReliabilityCurve,
    Undefined,
    Value,
)
from preceptor.evaluate.results import RunResult
from preceptor.evaluate.scores import Answered, Scores, agreements, class_agreement
from preceptor.evaluate.significance import gap, means
from preceptor.ops.calibration import reliability
from preceptor.ops.resampling import Crossed

SHOWN_CLASSES = 100


def class_reports(
    result: RunResult, scores: dict[str, Scores], generator: np.random.Generator
) -> tuple[ClassReport, ...]:
    """Each class's accuracy and gain; items are resampled within each class."""
    answered = {name: each.answered for name, each in scores.items() if each.answered}
    student, control = result.student.name, result.student.versus
    shown = [result.teacher.name] if result.teacher else []
    shown += [name for name in (student, control) if name in scores]
    reports = []
    for k, class_name in enumerate(result.classes):
        of_class = result.labels == k
        accuracy: dict[str, Value] = {}
        gain: Measured = Undefined("no test item is of this class")
        if of_class.any():
            crossed = Crossed(len(answered[student].hit), int(of_class.sum()), generator)
            hits = {name: answered[name].hit[:, of_class] for name in shown}
            for name, each in hits.items():
                accuracy |= means({name: each.astype(float)}, {name: "fraction"}, crossed)
            gain = Undefined("there is no control")
            if control in hits:
                gain = gap(hits[student], hits[control], crossed)
        reports.append(ClassReport(class_name, int(of_class.sum()), accuracy, gain))
    return tuple(reports)


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
    if teacher is None or student is None:
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
        return Undefined("What writes text has no classes to agree on.")
    return Matrix(
        title="How often two models give one answer, under one seed",
        rows=names,
        columns=names,
        values=tuple(map(tuple, agreements(answered))),
    )


def reliability_curve(name: str, scores: Answered) -> ReliabilityCurve:
    """Confidence and accuracy in ten bins of equal mass, all seeds pooled."""
    points = reliability(scores.confidence.ravel(), scores.hit.ravel(), bins=10)
    return ReliabilityCurve(
        arm=name,
        confidence=tuple(points.confidence.tolist()),
        accuracy=tuple(points.accuracy.tolist()),
        count=tuple(points.count.tolist()),
    )
