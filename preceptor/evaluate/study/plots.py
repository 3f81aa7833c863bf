"""A study's plots, drawn as a report's are: see `drawing`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from preceptor.evaluate.drawing import ARM_MARKS, INK, MARKERS, draw, plain_numbers, short
from preceptor.evaluate.report import Measured, Value
from preceptor.evaluate.study.study import GroupRow, PlaceRow, SignalRow, Study, TaskRow

_FAINT_LINE = 0.28


def gain_by_size(study: Study) -> Markup:
    """Mean gain of each student with its interval over tasks; a thin line for each task."""
    rows = study.students

    def paint(axes: Any) -> None:
        x = [row.parameters for row in rows]
        for task in dict.fromkeys(place.task for place in study.places):
            means = [_mean(study.places, task=task, student=row.name) for row in rows]
            axes.plot(x, means, color=INK, lw=0.7, alpha=_FAINT_LINE)
        for i, row in enumerate(rows):
            _point(axes, row.parameters, row.gain, i, short(row.name))
        axes.axhline(0, color=INK, lw=0.8, ls=(0, (3, 3)))
        axes.set_xscale("log")
        axes.margins(x=0.2)
        plain_numbers(axes.xaxis)
        axes.set_xlabel("parameters of the student")
        axes.set_ylabel("gain, points")
        axes.legend()

    return draw(paint, "gain against the student's size")


def gain_by_teacher(study: Study) -> Markup:
    """Gain against the teacher's accuracy, a mark for each place of the grid."""
    return _scatter(study, "teacher_accuracy", "gain", "accuracy of the teacher, %", "gain, points")


def plane(study: Study) -> Markup:
    """Accuracy and agreement: an arrow from each control to its taught student."""
    colours = _colours(study)

    seen = [
        100 * place.measures[name]
        for place in study.places
        for name in ("accuracy", "control_accuracy", "agreement", "control_agreement")
    ]
    low = 10 * math.floor(min(seen) / 10)

    def paint(axes: Any) -> None:
        axes.plot([low, 100], [low, 100], color=INK, lw=0.8, ls=(0, (3, 3)))
        for place in study.places:
            m = place.measures
            start = 100 * m["control_accuracy"], 100 * m["control_agreement"]
            end = 100 * m["accuracy"], 100 * m["agreement"]
            colour = ARM_MARKS[colours[place.student]]
            arrow = {"arrowstyle": "->", "color": colour, "lw": 0.9, "alpha": 0.8}
            axes.annotate("", xy=end, xytext=start, arrowprops=arrow)
        for name, colour in colours.items():
            own = [place.measures for place in study.places if place.student == name]
            x, y = ([100 * m[key] for m in own] for key in ("accuracy", "agreement"))
            mark = {"color": ARM_MARKS[colour], "marker": MARKERS[colour]}
            axes.plot(x, y, ls="none", ms=3.5, label=short(name), **mark)
        for row in study.students:
            x, y = _limits(row.taught), _limits(row.agreement)
            bars = {"xerr": _errors(x), "yerr": _errors(y), "capsize": 3, "lw": 1.4}
            colour = ARM_MARKS[colours[row.name]]
            axes.errorbar([x[0]], [y[0]], color=colour, ls="none", **bars)
        axes.set_xlabel("accuracy, %")
        axes.set_ylabel("agreement with the teacher, %")
        axes.legend(loc="lower right")

    return draw(paint, "accuracy and agreement with the teacher", 3.8)


def changes(study: Study) -> Markup:
    """Gain against the change in Cohen's kappa with the teacher."""
    return _scatter(study, "gain", "kappa_change", "gain, points", "change in kappa, hundredths")


def gains_of_tasks(rows: Sequence[TaskRow]) -> Markup:
    """Each task's gain with its interval over seeds and items."""
    ordered = sorted(rows, key=lambda row: _estimate(row.gain))
    return _bars([(row.task, row.gain) for row in ordered], "gain of each task")


def gains_of_signals(rows: Sequence[SignalRow], task: str) -> Markup:
    """What each signal gave on one task."""
    own = [(row.signal, row.gain) for row in rows if row.task == task]
    return _bars(own[::-1], f"gain of each signal on {task}")


def gains_of_options(rows: Sequence[GroupRow]) -> Markup:
    """What each option gave everywhere."""
    named = [(f"{row.name} ({row.chosen}×)", row.gain) for row in rows]
    return _bars(named[::-1], "gain of each option")


def _scatter(study: Study, first: str, second: str, x_label: str, y_label: str) -> Markup:
    colours = _colours(study)

    def paint(axes: Any) -> None:
        for name, colour in colours.items():
            own = [
                place.measures
                for place in study.places
                if place.student == name and {first, second} <= set(place.measures)
            ]
            x, y = ([100 * m[key] for m in own] for key in (first, second))
            mark = {"color": ARM_MARKS[colour], "marker": MARKERS[colour]}
            axes.plot(x, y, ls="none", ms=4.5, alpha=0.85, label=short(name), **mark)
        axes.axhline(0, color=INK, lw=0.8, ls=(0, (3, 3)))
        if first == "gain":
            axes.axvline(0, color=INK, lw=0.8, ls=(0, (3, 3)))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend()

    return draw(paint, f"{y_label} against {x_label}")


def _bars(named: Sequence[tuple[str, Measured]], what: str) -> Markup:
    def paint(axes: Any) -> None:
        for i, (_, gain) in enumerate(named):
            middle, low, high = _limits(gain)
            colour = ARM_MARKS[1 if middle >= 0 else 2]
            axes.barh(i, middle, color=colour, alpha=0.75, height=0.65)
            axes.plot([low, high], [i, i], color=INK, lw=1)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_yticks(range(len(named)), [short(name, 26) for name, _ in named])
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_xlabel("gain over the control, points")

    return draw(paint, what, 0.9 + 0.26 * max(3, len(named)))


def _point(axes: Any, x: float, gain: Measured, index: int, label: str) -> None:
    middle, low, high = _limits(gain)
    axes.errorbar(
        [x],
        [middle],
        yerr=_errors((middle, low, high)),
        color=ARM_MARKS[(index + 1) % len(ARM_MARKS)],
        marker=MARKERS[(index + 1) % len(MARKERS)],
        capsize=3,
        ls="none",
        label=label,
    )


def _errors(limits: tuple[float, float, float]) -> list[list[float]]:
    """How far the limits lie from the estimate between them."""
    middle, low, high = limits
    return [[middle - low], [high - middle]]


def _limits(gain: Measured) -> tuple[float, float, float]:
    """Estimate and limits in points; NaN draws nothing."""
    if not isinstance(gain, Value):
        return math.nan, math.nan, math.nan
    low, high = (gain.estimate if edge is None else edge for edge in (gain.low, gain.high))
    return 100 * gain.estimate, 100 * low, 100 * high


def _estimate(gain: Measured) -> float:
    return gain.estimate if isinstance(gain, Value) else float("-inf")


def _colours(study: Study) -> Mapping[str, int]:
    return {row.name: (i + 1) % len(ARM_MARKS) for i, row in enumerate(study.students)}


def _mean(places: Sequence[PlaceRow], *, task: str, student: str) -> float:
    own = [p.measures["gain"] for p in places if p.task == task and p.student == student]
    return 100 * float(np.mean(own)) if own else float("nan")
