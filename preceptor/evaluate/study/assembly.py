"""From a grid's comparisons to a study.

Dimension key: t tasks, s students, k teachers, m methods.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from preceptor.evaluate.report import Measured, Undefined
from preceptor.evaluate.study.cells import Compared, commonest, hits
from preceptor.evaluate.study.correlations import correlations
from preceptor.evaluate.study.findings import findings
from preceptor.evaluate.study.measures import (
    MEASURES,
    at_place,
    mean_of,
    over_items,
    over_tasks,
    rate_over_items,
    seed_mean,
)
from preceptor.evaluate.study.study import (
    SCHEMA,
    FidelityRow,
    GroupRow,
    PlaceRow,
    SignalRow,
    Study,
    TaskRow,
    Trouble,
)
from preceptor.evaluate.study.table import TRUE, Table, tabulated
from preceptor.ops.resampling import Crossed

_FIDELITY = {
    "agreement": ("fraction", "difference"),
    "kappa": ("rho", "difference of rho"),
    "error_consistency": ("rho", "difference of rho"),
    "token_agreement": ("fraction", "difference"),
    "specific": ("difference", "difference of differences"),
}
"""Each with its unit, and that of a difference of two."""
_WITHOUT = {
    "specific": "no teacher was trained from a second seed",
    "token_agreement": "student and teacher read no task in the same tokens",
}
"""Why there is none of them, where there is none."""

_SEED = 0
"""Of all resampling, so that a study read again gives the same limits."""


def build_study(
    name: str,
    trials: Sequence[Compared],
    *,
    options: Sequence[str],
    troubles: Sequence[Trouble],
    cells: int,
    seconds: float,
    recipe: str,
    versions: Mapping[str, str],
    hardware: Mapping[str, str],
) -> Study:
    """Judge a finished grid.

    Args:
        name: the study's.
        trials: all comparisons, of the true and of altered signals.
        options: the words of what was chosen among, [""] where nothing was.
        troubles: cells that collapsed or failed.
        cells, seconds, recipe, versions, hardware: how it was made.
    """
    generator = np.random.default_rng(_SEED)
    table = tabulated(trials, options)
    small = _small_minus_large(table)
    mean_gain = over_tasks(_per_task(table, "gain"), "difference")
    related = correlations(table, generator)
    fidelity = _fidelity(table)
    students = _groups(table, 1, table.students)
    teachers = _groups(table, 2, table.teachers)
    option_rows = _options(table, options)
    signals = _signals(trials, generator)
    return Study(
        schema=SCHEMA,
        name=name,
        findings=findings(
            mean_gain, small, students, teachers, related, fidelity, signals, option_rows
        ),
        mean_gain=mean_gain,
        small_minus_large=small,
        tasks=tuple(_task(table, task, generator) for task in table.tasks),
        students=students,
        teachers=teachers,
        methods=_groups(table, 3, table.methods),
        options=option_rows,
        correlations=related,
        fidelity=fidelity,
        signals=signals,
        places=tuple(
            PlaceRow(*place, table.options[place], len(table.places[place]), _finite(each), own)
            for (place, each), own in zip(table.measures.items(), _at_places(table), strict=True)
        ),
        troubles=(*troubles, *_knows_nothing(trials)),
        seeds=tuple(sorted({trial.seed for trial in trials})),
        cells=cells,
        comparisons=len(trials),
        seconds=seconds,
        recipe=recipe,
        versions=versions,
        hardware=hardware,
    )


def _at_places(table: Table) -> Iterator[dict[str, Measured]]:
    """What each place's row shows; places of as many seeds and items share their draws."""
    shared: dict[tuple[int, int], Crossed] = {}
    for trials in table.places.values():
        shape = len(trials), len(trials[0].labels)
        if shape not in shared:
            shared[shape] = Crossed(*shape, np.random.default_rng(_SEED))
        yield at_place(trials, shared[shape])


def _finite(measures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in measures.items() if not np.isnan(value)}


def _per_task(table: Table, name: str, **where: str) -> np.ndarray:
    """A measure's mean over the places of each task; `where` names one student, teacher, ..."""
    axes = {"student": 1, "teacher": 2, "method": 3}
    found = []
    for task in table.tasks:
        own = [
            each
            for place, each in table.measures.items()
            if place[0] == task and all(place[axes[k]] == v for k, v in where.items())
        ]
        found.append(mean_of(own, name))
    return np.array(found)


def _small_minus_large(table: Table) -> Measured:
    if len(table.students) < 2:
        return Undefined("there is one student alone")
    sides = [_per_task(table, "gain", student=table.students[end]) for end in (0, -1)]
    return over_tasks(sides[0] - sides[1], "difference of differences")


def _task(table: Table, task: str, generator: np.random.Generator) -> TaskRow:
    places = table.of_task(task)
    labels = places[0][0].labels
    drawn = np.random.default_rng(_SEED)
    return TaskRow(
        task=task,
        items=len(labels),
        commonest=commonest(labels),
        teacher=rate_over_items(places, "teacher", drawn),
        control=rate_over_items(places, "control", drawn),
        taught=rate_over_items(places, "taught", drawn),
        gain=over_items(places, generator),
    )


def _groups(table: Table, axis: int, names: Sequence[str]) -> tuple[GroupRow, ...]:
    key = ("task", "student", "teacher", "method")[axis]
    found = []
    for name in names:
        values = {m: _per_task(table, m, **{key: name}) for m in MEASURES}
        found.append(_group(name, values, 0, Undefined("it is no option")))
    return tuple(found)


def _group(
    name: str, values: Mapping[str, np.ndarray], chosen: int, against_first: Measured
) -> GroupRow:
    """Means over tasks of what is one number a task."""
    return GroupRow(
        name=name,
        parameters=float(np.nanmean(values["parameters"])),
        control=over_tasks(values["control_accuracy"], "fraction"),
        taught=over_tasks(values["accuracy"], "fraction"),
        gain=over_tasks(values["gain"], "difference"),
        agreement=over_tasks(values["agreement"], "fraction"),
        chosen=chosen,
        against_first=against_first,
    )


def _options(table: Table, options: Sequence[str]) -> tuple[GroupRow, ...]:
    """What each option would have given everywhere: shown, and not what anything was chosen by."""
    found: list[GroupRow] = []
    gains: list[np.ndarray] = []
    for option in options if len(options) > 1 else ():
        measures = {
            place: seed_mean(trials)
            for (place, own), trials in table.tried.items()
            if own == option
        }
        values = {
            name: np.array(
                [mean_of([m for p, m in measures.items() if p[0] == t], name) for t in table.tasks]
            )
            for name in ("control_accuracy", "accuracy", "gain", "agreement", "parameters")
        }
        gains.append(values["gain"])
        first = Undefined("it is the first")
        moved = over_tasks(gains[-1] - gains[0], "difference of differences")
        chosen = sum(own == option for own in table.options.values())
        found.append(_group(option, values, chosen, moved if len(gains) > 1 else first))
    return tuple(found)


def _fidelity(table: Table) -> tuple[FidelityRow, ...]:
    rows = []
    written = any(trial.teacher.tokens for each in table.places.values() for trial in each)
    for name in _FIDELITY if written else [each for each in _FIDELITY if "token" not in each]:
        values = {each: _per_task(table, each) for each in (name, f"control_{name}")}
        change = _per_task(table, f"{name}_change")
        unit, moved = _FIDELITY[name]
        without = _WITHOUT.get(name, "no task has this number")
        rows.append(
            FidelityRow(
                MEASURES[name],
                over_tasks(values[name], unit, without),
                over_tasks(values[f"control_{name}"], unit, without),
                over_tasks(change, moved, without),
            )
        )
    return tuple(rows)


def _signals(trials: Sequence[Compared], generator: np.random.Generator) -> tuple[SignalRow, ...]:
    """Each altered signal and the true one, at the same places and the same option."""
    names = list(dict.fromkeys(trial.signal for trial in trials))
    rows = []
    for task in dict.fromkeys(t.place[0] for t in trials if t.signal != TRUE):
        at = {(t.place, t.option) for t in trials if t.signal != TRUE and t.place[0] == task}
        by_signal = {
            name: [
                [t for t in trials if t.signal == name and (t.place, t.option) == where and t.whole]
                for where in sorted(at)
            ]
            for name in names
        }
        true = by_signal.get(TRUE, [])
        for name, places in by_signal.items():
            if not all(places):
                why = Undefined("some of its cells failed")
                rows.append(SignalRow(task, name, why, why))
                continue
            against: Measured = Undefined("it is the true one")
            if name != TRUE and all(true):
                against = over_items(places, generator, true)
            rows.append(SignalRow(task, name, over_items(places, generator), against))
    return tuple(rows)


def _knows_nothing(trials: Sequence[Compared]) -> tuple[Trouble, ...]:
    """Models that finished and are no better than always giving the commonest answer."""
    found: dict[str, Trouble] = {}
    for trial in trials:
        if not trial.whole:
            continue
        task, student, teacher, method = trial.place
        who = {
            f"{task}: teacher {teacher}": trial.teacher,
            f"{task}: control {student}": trial.control,
            ", ".join(
                filter(None, (f"{task}: {student} taught by {teacher}", method, trial.option))
            )
            + ("" if trial.signal == TRUE else f", {trial.signal} signal"): trial.taught,
        }
        least = commonest(trial.labels)
        for words, model in who.items():
            right = float(hits(model, trial.labels).mean())
            if model.state == "done" and right <= least:
                name = f"{words}, seed {trial.seed}"
                why = f"right on {100 * right:.1f} %; the commonest answer is {100 * least:.1f} %"
                found[name] = Trouble(name, "knows nothing", why)
    return tuple(found.values())
