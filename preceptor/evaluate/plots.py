"""A report's plots, drawn as `drawing` does."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from preceptor.evaluate.drawing import (
    ARM_MARKS,
    INK,
    MARKERS,
    Picture,
    draw,
    plain_numbers,
    short,
)
from preceptor.evaluate.rankings import TeacherRanking
from preceptor.evaluate.report import (
    MEASURES,
    Curve,
    Matrix,
    Measured,
    ReliabilityCurve,
    Report,
    Value,
)


def palette(report: Report) -> dict[str, int]:
    """Each arm's colour by number: the teacher's 0, the student's 1, the control's 2, then on."""
    first = [arm.name for arm in report.arms if arm.role == "teacher"]
    first += [report.student] + ([report.control] if report.control else [])
    rest = [arm.name for arm in report.arms if arm.name not in first]
    start = 0 if any(arm.role == "teacher" for arm in report.arms) else 1
    return {name: (start + i) % len(ARM_MARKS) for i, name in enumerate(first + rest)}


def losses(report: Report, term: str) -> Picture:
    """One term's curves: a line an arm, its mean over seeds, in a band from least to greatest."""
    colours = palette(report)
    shown = [curve for curve in report.curves if curve.term == term and _draws(report, curve.arm)]
    data = [(curve, ARM_MARKS[colours[curve.arm]]) for curve in shown]
    return Picture(_paint_losses, (data, term), f"losses: {term}")


def _paint_losses(axes: Any, shown: Sequence[tuple[Curve, str]], term: str) -> None:
    for curve, colour in shown:
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, lw=0)
        axes.plot(curve.steps, curve.mean, color=colour, lw=1.6, label=short(curve.arm))
    if shown and min(min(curve.low) for curve, _ in shown) > 0:
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    axes.set_xlabel("step")
    axes.set_ylabel(short(term, 40))
    axes.legend()


def loss_terms(report: Report) -> list[str]:
    """The terms that students and plain arms logged."""
    return list(dict.fromkeys(c.term for c in report.curves if _draws(report, c.arm)))


def _draws(report: Report, arm: str) -> bool:
    return report.arm(arm).role != "teacher"


def against(report: Report, measure: str, label: str, scale: float = 1.0) -> Picture | None:
    """The primary measure with its interval against a cost; None where no two arms have it."""
    colours = palette(report)
    shown = [
        (arm.name, scale * cost.estimate, primary, colours[arm.name])
        for arm in report.arms
        if isinstance(cost := arm.measures.get(measure), Value)
        and isinstance(primary := arm.measures[report.primary], Value)
    ]
    if len(shown) < 2:
        return None
    what = f"{MEASURES[report.primary]} against {label}"
    return Picture(_paint_against, (shown, report.primary, label), what)


def _paint_against(
    axes: Any, shown: Sequence[tuple[str, float, Value, int]], primary: str, label: str
) -> None:
    unit = 100.0 if primary == "accuracy" else 1.0
    places = [place for _, place, _, _ in shown]
    for i, (name, place, value, colour) in enumerate(shown):
        # Arms of one architecture cost about the same: they stand side by side.
        alike = [j for j, other in enumerate(places) if math.isclose(other, place, rel_tol=0.1)]
        y = value.estimate
        low, high = (y if limit is None else limit for limit in (value.low, value.high))
        axes.errorbar(
            [place * 1.09 ** (alike.index(i) - (len(alike) - 1) / 2)],
            [unit * y],
            yerr=[[unit * (y - low)], [unit * (high - y)]],
            color=ARM_MARKS[colour],
            marker=MARKERS[colour],
            capsize=3,
            ls="none",
            label=short(name),
            clip_on=False,
        )
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    if primary == "accuracy":  # There is none below 0 or above 100.
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 100))
    plain_numbers(axes.xaxis)
    axes.set_xlabel(label)
    axes.set_ylabel(MEASURES[primary] + (", %" if unit == 100 else ""))
    axes.legend(loc="best")


def reliability(report: Report) -> Picture:
    """Accuracy of items by confidence, for teacher, student and control."""
    colours = palette(report)
    shown = [(each, colours[each.arm]) for each in report.reliability if colours[each.arm] < 3]
    return Picture(_paint_reliability, (shown,), "reliability: accuracy by confidence", 3.8)


def _paint_reliability(axes: Any, shown: Sequence[tuple[ReliabilityCurve, int]]) -> None:
    axes.plot([0, 100], [0, 100], color=INK, lw=0.8, ls=(0, (3, 3)))
    lowest = 100.0
    for curve, colour in shown:
        x, y = ([100 * each for each in side] for side in (curve.confidence, curve.accuracy))
        lowest = min(lowest, *x, *y)
        axes.plot(
            x, y, color=ARM_MARKS[colour], marker=MARKERS[colour], ms=4,
            lw=1.4, label=short(curve.arm),
        )  # fmt: skip
    low = max(0.0, 10 * math.floor(lowest / 10))
    axes.set(xlim=(low, 101), ylim=(low, 101), aspect="equal")
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("accuracy, %")
    axes.legend(loc="upper left")


def matrix(table: Matrix, rows: str, columns: str, least: float = 0.0) -> Picture:
    """A matrix of shares as a picture, palest at `least`, with numbers where they fit."""
    return Picture(_paint_matrix, (table, rows, columns, least), table.title, 4.0)


def _paint_matrix(axes: Any, table: Matrix, rows: str, columns: str, least: float) -> None:
    size = max(len(table.rows), len(table.columns))
    dark = least + 0.6 * (1 - least)
    axes.grid(False)
    axes.imshow(table.values, cmap="Blues", vmin=least, vmax=1, interpolation="nearest")
    if size <= 25:
        upright = size <= 12 and max(map(len, table.columns)) <= 3
        axes.set_xticks(range(len(table.columns)), [short(n) for n in table.columns])
        axes.set_yticks(range(len(table.rows)), [short(n) for n in table.rows])
        axes.tick_params(axis="x", rotation=0 if upright else 90, length=0)
        axes.tick_params(axis="y", length=0)
    if size <= 12:
        for i, row in enumerate(table.values):
            for j, value in enumerate(row):
                if value >= 0.005:
                    ink = "#ffffff" if value > dark else "#14202b"
                    text = f"{100 * value:.0f}"
                    axes.text(j, i, text, ha="center", va="center", color=ink, size=8.5)
    axes.set_xlabel(columns)
    axes.set_ylabel(rows)


def gains(report: Report, most: int = 10) -> Picture | None:
    """Each class's gain over the control; of many classes the most and the least gaining."""
    found = [(each.name, each.gain) for each in report.classes]
    shown = [(name, gain) for name, gain in found if isinstance(gain, Value)]
    shown.sort(key=lambda each: each[1].estimate)
    if not shown:
        return None
    if len(shown) > 2 * most:
        shown = shown[:most] + shown[-most:]
    colours = palette(report)
    up, down = (
        ARM_MARKS[colours[arm or report.student]] for arm in (report.student, report.control)
    )
    height = 1.0 + 0.27 * max(6, len(shown))
    return Picture(_paint_gains, (shown, up, down), "gain of each class", height)


def _paint_gains(axes: Any, shown: Sequence[tuple[str, Value]], up: str, down: str) -> None:
    for i, (_, gain) in enumerate(shown):
        middle = 100 * gain.estimate
        low, high = (100 * (x if x is not None else gain.estimate) for x in (gain.low, gain.high))
        axes.barh(i, middle, color=up if middle >= 0 else down, alpha=0.75, height=0.7)
        axes.plot([low, high], [i, i], color=INK, lw=1)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(range(len(shown)), [short(name) for name, _ in shown])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel("gain over the control, points")


def ranking(found: TeacherRanking) -> Picture:
    """Candidates from the best down, each score with its interval.

    Who was chosen is a full mark; those that cannot be told from the best are open ones, others
    are crosses.
    """
    what = f"{found.score} of the candidates, {found.moment}"
    return Picture(_paint_ranking, (found,), what, 1.2 + 0.3 * len(found.candidates))


def _paint_ranking(axes: Any, found: TeacherRanking) -> None:
    shown = found.candidates
    near = {shown[0].name, *shown[0].tied, *found.chosen}
    for i, each in enumerate(shown):
        axes.plot([each.low, each.high], [i, i], color=INK, lw=1.2)
        mark = {"marker": "o" if each.name in near else "x", "color": ARM_MARKS[0], "ms": 7}
        filled = {} if each.name in found.chosen else {"fillstyle": "none"}
        axes.plot([each.score], [i], ls="none", **mark, **filled)
    axes.set_yticks(range(len(shown)), [short(each.name) for each in shown])
    axes.invert_yaxis()
    axes.margins(y=0.15)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"{found.score}, {found.better} is better")


def gains_side_by_side(rows: Sequence[tuple[str, Measured]]) -> Markup | None:
    """Each run's gain over its own control with its interval, in the order given.

    None where fewer than two have one, or where they are not in one unit.
    """
    shown = [(name, gain) for name, gain in rows if isinstance(gain, Value)]
    units = {gain.unit for _, gain in shown}
    if len(shown) < 2 or len(units) > 1:
        return None
    points = units == {"difference"}
    scale = 100.0 if points else 1.0

    def paint(axes: Any) -> None:
        for i, (_, gain) in enumerate(shown):
            low, high = (gain.estimate if x is None else x for x in (gain.low, gain.high))
            axes.plot([scale * low, scale * high], [i, i], color=INK, lw=1.2)
            axes.plot([scale * gain.estimate], [i], marker="o", ms=5, color=ARM_MARKS[1])
        axes.axvline(0, color=INK, lw=0.8, ls=(0, (3, 3)))
        axes.set_yticks(range(len(shown)), [short(name, 28) for name, _ in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_xlabel(f"gain over the control, {'points' if points else units.pop()}")

    return draw(paint, "gain of each run over its control", 1.0 + 0.22 * max(3, len(shown)))
