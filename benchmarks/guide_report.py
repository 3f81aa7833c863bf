"""Tables, claims and a plot of whatever is finished."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from guide_cells import Cells
from guide_experiment import Experiment, Unfinished
from guide_gap import advantage, interaction, reduction
from guide_language import STARTS, Course
from guide_overhead import claim
from guide_plot import draw
from guide_settings import BEST, Settings
from paired import Claim, conclude, reported, table

from preceptor.evaluate.tables import markdown_table
from preceptor.ops.resampling import Interval

Drawn = Callable[[Sequence[str], Sequence[Sequence[object]]], str]
"""A table's heads and rows as text."""

_ENDS = 2
"""Points of a curve that was only looked at before and after."""

_SMALL = 3
"""Fewer seeds than this give no interval worth printing."""


def shown(found: Interval | str, percent: bool = False) -> str:
    """For a table: estimate and limits; "no lead" where the teacher's is not told from 0."""
    if isinstance(found, str):
        return "no lead"
    factor, digits = (100, 0) if percent else (1, 3)
    return "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(*(factor * x for x in found), d=digits)


def words(course: Any) -> str:
    """An arm's name."""
    start = "" if course.start == "random" else course.start
    pull = f"pull {course.pull:g}" if getattr(course, "pull", 0) else ""
    parts = [part for part in (start, pull, "KD" if course.taught else "") if part]
    return " + ".join(parts) or "random"


@final
@dataclass(frozen=True)
class Comparison:
    """Arms of one student that share data and steps, the first of them the random start.

    Args:
        experiment: whose results.
        arms: a course each.
        seeds: those under which all are finished.
    """

    experiment: Experiment
    arms: Sequence[Any]
    seeds: Sequence[int]

    @classmethod
    def of(cls, experiment: Experiment, arms: Sequence[Any], seeds: Sequence[int]) -> "Comparison":
        """With the finished seeds.

        Raises:
            Unfinished: they are too few.
        """
        common = experiment.common(arms, seeds)
        if len(common) < min(_SMALL, len(seeds)):
            raise Unfinished
        return cls(experiment, arms, common)

    def scores(self, arm: Any) -> np.ndarray:
        """[seeds, items]."""
        return self.experiment.scores(arm, self.seeds)

    def reduction(self, arm: Any) -> Interval | str:
        """The share of the teacher's lead that an arm makes up."""
        teacher = self.experiment.teacher(arm)
        return reduction(self.scores(arm), self.scores(self.arms[0]), teacher)

    def over(self, arm: Any, other: Any) -> Interval:
        """How far an arm's loss lies below another's."""
        return advantage(self.scores(arm), self.scores(other))

    def interaction(self, start: str) -> Interval:
        """Of a start and KD."""
        both, alone = (self._arm(start, taught) for taught in (True, False))
        each = (self.arms[0], alone, self._arm("random", True), both)
        return interaction(*(self.scores(arm) for arm in each))

    def _arm(self, start: str, taught: bool) -> Any:
        return next(a for a in self.arms if (a.start, a.taught) == (start, taught))

    def row(self, arm: Any) -> tuple[object, ...]:
        """An arm's line of a table."""
        tuned, taught = self.experiment.tuned(arm), self._arm("random", True)
        first = np.mean([curve[0][1] for curve in self.experiment.curves(arm, self.seeds)])
        return (
            words(arm),
            f"{tuned.rate:g}",
            f"{first:.3f}",
            f"{self.scores(arm).mean():.3f}",
            "-" if arm is self.arms[0] else shown(self.reduction(arm), percent=True),
            "-" if arm is taught else shown(self.over(arm, taught)),
            self._sooner(arm),
        )

    def _sooner(self, arm: Any) -> str:
        """The median speed-up, or how many seeds reached the loss; nothing without a curve."""
        if any(len(curve) <= _ENDS for curve in self.experiment.curves(arm, self.seeds)):
            return ""
        ups = self.experiment.speed_ups(arm, self.arms[0], self.seeds)
        reached = [up for up in ups if up is not None]
        if len(reached) < len(ups):
            return f"{len(reached)} of {len(ups)}"
        return f"{np.median(reached):.1f}"

    def print(self, title: str, drawn: Drawn) -> None:
        """The table, teacher first."""
        teacher = self.experiment.teacher(self.arms[0])
        heads = ("arm", "rate", "at step 0", "test", "R, %", "below KD alone", "speed-up")
        rows = [("teacher", "", "", f"{teacher.mean():.3f}", "", "", ""), *map(self.row, self.arms)]
        print(f"\n{title}; {len(self.seeds)} seeds, {teacher.shape[1]} test items")
        print(drawn(heads, rows))


def arms(every: Mapping[str, Experiment], said: Settings, drawn: Drawn) -> list[Claim]:
    """Each experiment's arms, their reductions and interactions."""
    claims: list[Claim] = []
    for kind, name, listed in (
        ("language", "language", said.language()),
        ("sentences", "sentences", said.sentences()),
        *(("images", f"images, {own}, {n} steps", said.images(own, n)) for own, n in said.networks),
    ):
        try:
            found = Comparison.of(every[kind], listed, said.seeds)
        except Unfinished:
            print(f"\n{name}: not finished")
            continue
        found.print(name, drawn)
        for arm in listed[1:]:
            claims += claimed(f"{name}: gap reduction, {words(arm)}", found.reduction(arm))
        for start in dict.fromkeys(arm.start for arm in listed if arm.taught):
            if start != "random":
                value = found.interaction(start)
                print(f"interaction of {start} and KD: {shown(value)}")
                claims += claimed(f"{name}: interaction, {start} and KD", value)
    return claims


def bases(experiment: Experiment, said: Settings, drawn: Drawn) -> list[Claim]:
    """The ranking of starts."""
    listed = [said.course("random", False), said.course("random", True), *said.bases()[1:]]
    try:
        found = Comparison.of(experiment, listed, said.seeds)
    except Unfinished:
        print("\nbases: not finished")
        return []
    by_loss = sorted(listed[2:], key=lambda arm: found.scores(arm).mean())
    replace(found, arms=[*listed[:2], *by_loss]).print("bases of the stream, untaught", drawn)
    return [c for arm in by_loss for c in claimed(f"base: {words(arm)}", found.reduction(arm))]


def places(experiment: Experiment, said: Settings, start: str) -> list[tuple[Course, Comparison]]:
    """A start's four arms wherever they are finished."""
    sizes = [{"width": width, "steps": steps} for steps in said.budgets for width in said.widths]
    vocabularies = [{"vocabulary": each} for each in said.vocabularies[1:]]
    fields = [*sizes, {"steps": said.long}, *vocabularies, {"tied": True}]
    listed = [said.four(start, **each) for each in fields]
    found: list[tuple[Course, Comparison]] = []
    for four in listed:
        try:
            found.append((four[0], Comparison.of(experiment, four, said.seeds)))
        except Unfinished:
            continue
    return found


def grid(
    experiment: Experiment, said: Settings, start: str, drawn: Drawn
) -> list[tuple[Course, Comparison]]:
    """Where a start's gain grows or fades."""
    rows: list[tuple[object, ...]] = []
    found = places(experiment, said, start)
    for place, each in found:
        _, taught, begun, both = each.arms
        count = experiment.under(place, each.seeds[0])["parameters"]
        tables = place.vocabulary * place.width * (1 if place.tied else 2)
        rows.append(
            (
                f"{place.width}{', tied' if place.tied else ''}",
                place.vocabulary,
                place.steps,
                len(each.seeds),
                f"{count:,}",
                f"{tables / count:.0%}",
                *(shown(each.reduction(arm), percent=True) for arm in (begun, taught, both)),
                shown(each.interaction(start)),
            )
        )
    heads = ("width", "vocabulary", "steps", "seeds", "parameters", "in tables")
    print(f"\n{start} by size, budget, vocabulary: R in %, and I in nats")
    print(drawn((*heads, start, "KD", "both", "I"), rows))
    return found


def rates(experiment: Experiment, said: Settings, drawn: Drawn) -> None:
    """GUIDE by learning rate: validation loss of the trials, one seed."""
    rows: list[tuple[object, ...]] = []
    for start in STARTS:
        try:
            trials = experiment.trials(said.course(start, False))
        except Unfinished:
            continue
        rows.append((start, *(f"{trials[r]['curve'][-1][1]:.3f}" for r in experiment.rates)))
    print("\nvalidation loss by learning rate, one seed")
    print(drawn(("start", *(f"{rate:g}" for rate in experiment.rates)), rows))


def claimed(name: str, found: Interval | str) -> list[Claim]:
    """A figure that is reported and not enforced; nothing where there is none."""
    return [] if isinstance(found, str) else [reported(name, found)]


def report(
    said: Settings,
    every: Mapping[str, Experiment],
    cells: Cells,
    plot: Path | None,
    *,
    markdown: bool,
) -> None:
    """Everything that is finished, then one JSON line a claim."""
    drawn: Drawn = _markdown if markdown else table
    claims = arms(every, said, drawn)
    if plot is not None:
        language = every["language"]
        claims += bases(language, said, drawn)
        rates(language, said, drawn)
        grid(language, said, BEST, drawn)
        found = grid(language, said, "guide", drawn)
        if found:
            draw(found, plot)
    costs = (each for each in cells.every() if each["cell"]["kind"] == "Overhead")
    conclude([*claims, *map(claim, costs)])


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [tuple(heads), *(tuple(map(str, row)) for row in rows)]
    return "\n" + markdown_table(lines)
