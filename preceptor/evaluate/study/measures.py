"""What is measured in one comparison, and how comparisons are averaged.

Tasks are the units: seeds and test items differ from task to task, so what they add to a task's
number is in the spread between tasks, and an interval over tasks holds it. Cells of one task share
its data, its teachers and its controls, and are never counted as independent.

Dimension key: t tasks, s students, k teachers, m methods, n test items, e seeds.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Literal

import numpy as np
from jaxtyping import Float

from preceptor.evaluate.alike import cohen
from preceptor.evaluate.fidelity import cohen_kappa, error_consistency, specific
from preceptor.evaluate.measures import range_of
from preceptor.evaluate.report import Measured, Undefined, Value
from preceptor.evaluate.significance import gap, means
from preceptor.evaluate.study.cells import (
    Compared,
    answers,
    commonest,
    hits,
    same_tokens,
)
from preceptor.ops import proportions, resampling

FEWEST_TASKS = 3
_ROUNDING = 1e-9
Who = Literal["taught", "control", "teacher"]

MEASURES: dict[str, str] = {
    "accuracy": "accuracy",
    "control_accuracy": "the control's accuracy",
    "teacher_accuracy": "the teacher's accuracy",
    "expertise": "the teacher's expertise",
    "gain": "gain",
    "agreement": "agreement with the teacher",
    "control_agreement": "the control's agreement with the teacher",
    "agreement_change": "change in agreement",
    "kappa": "Cohen's kappa with the teacher",
    "control_kappa": "the control's kappa",
    "kappa_change": "change in kappa",
    "error_consistency": "error consistency with the teacher",
    "control_error_consistency": "the control's error consistency",
    "error_consistency_change": "change in error consistency",
    "token_agreement": "agreement on each token",
    "control_token_agreement": "the control's agreement on each token",
    "token_agreement_change": "change in agreement on each token",
    "specific": "agreement with its own teacher beyond another seed's",
    "control_specific": "the same of the control",
    "specific_change": "change in agreement beyond another seed's teacher",
    "parameters": "parameters",
}
"""The measures of a place, by name."""


def measured(trial: Compared) -> dict[str, float]:
    """All measures of one comparison; NaN where one is not defined."""
    labels = trial.labels
    taught, control, teacher = (
        answers(model, labels) for model in (trial.taught, trial.control, trial.teacher)
    )
    right = {"": taught == labels, "control_": control == labels, "teacher_": teacher == labels}
    found = {f"{who}accuracy": float(hit.mean()) for who, hit in right.items()}
    least = commonest(labels)
    found["expertise"] = (found["teacher_accuracy"] - least) / (1 - least) if least < 1 else np.nan
    found["parameters"] = float(trial.taught.parameters or trial.control.parameters)
    for who, own in (("", taught), ("control_", control)):
        found[f"{who}agreement"] = float((own == teacher).mean())
        found[f"{who}kappa"] = cohen_kappa(own, teacher)
        consistent = error_consistency(right[who], right["teacher_"])
        found[f"{who}error_consistency"] = consistent.kappa
        if trial.rival is not None and trial.rival.state != "failed":
            each = specific(own, teacher, answers(trial.rival, labels))
            found[f"{who}specific"] = float(each.mean())
        else:
            found[f"{who}specific"] = np.nan
    found["token_agreement"] = same_tokens(trial.taught, trial.teacher)
    found["control_token_agreement"] = same_tokens(trial.control, trial.teacher)
    for name in ("agreement", "kappa", "error_consistency", "token_agreement", "specific"):
        found[f"{name}_change"] = found[name] - found[f"control_{name}"]
    found["gain"] = found["accuracy"] - found["control_accuracy"]
    return found


def seed_mean(trials: Sequence[Compared]) -> dict[str, float]:
    """Measures of one place, averaged over the seeds that have them."""
    each = [measured(trial) for trial in trials]
    return {name: _mean([one[name] for one in each]) for name in MEASURES}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def over_tasks(
    numbers: Float[np.ndarray, " t"], unit: str, without: str = "no task has this number"
) -> Measured:
    """The mean of one number a task, with Student's interval over tasks.

    `without` says why there is none where no task has it.
    """
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return Undefined(without)
    if len(known) < FEWEST_TASKS:
        return Value(float(known.mean()), None, None, len(known), unit)
    found = resampling.t_interval(known)
    return Value(found.estimate, *_within(found, unit), len(known), unit)


def _within(found: resampling.Interval, unit: str) -> tuple[float, float]:
    """Limits that end where the quantity itself must.

    Student's interval knows no bounds, and a bootstrap of two seeds is widened as it is.
    """
    least, most = range_of(unit)
    return max(least, found.low), min(most, found.high)


def over_items(
    places: Sequence[Sequence[Compared]],
    generator: np.random.Generator,
    versus: Sequence[Sequence[Compared]] | None = None,
) -> Measured:
    """The gain of some places of one task, averaged; limits over seeds and test items.

    Against the control, or against the taught students of the places `versus`. Seeds that a place
    lacks are left out everywhere.
    """
    other = places if versus is None else versus
    seeds = _shared((*places, *other))
    if not seeds:
        return Undefined("no seed has all of its cells")
    whose = "control" if versus is None else "taught"
    sides = _hits(places, seeds, "taught"), _hits(other, seeds, whose)
    return _over_both(*sides, generator, "difference")


def rate_over_items(
    places: Sequence[Sequence[Compared]], who: Who, generator: np.random.Generator
) -> Measured:
    """How often one side is right at some places of one task; limits over seeds and test items."""
    if not (seeds := _shared(places)):
        return Undefined("no seed has all of its cells")
    right = _hits(places, seeds, who)
    return _over_both(right, np.zeros_like(right), generator, "fraction")


def _over_both(
    first: Float[np.ndarray, "e n"],
    second: Float[np.ndarray, "e n"],
    generator: np.random.Generator,
    unit: str,
) -> Value:
    """Never without width: what was alike on n items need not be so on others."""
    found = resampling.paired_bootstrap(first, second, generator)
    items = first.shape[1]
    if found.high - found.low < _ROUNDING and unit == "fraction":
        found = proportions.wilson(found.estimate * items, items)
    elif found.high - found.low < _ROUNDING:
        more = float(np.maximum(first - second, 0).mean()) * items
        less = float(np.maximum(second - first, 0).mean()) * items
        found = proportions.tango(more, min(less, items - more), items)
    return Value(found.estimate, *_within(found, unit), items, unit)


def at_place(trials: Sequence[Compared], crossed: resampling.Crossed) -> dict[str, Measured]:
    """What a place's row shows, with limits over seeds and test items.

    Args:
        trials: of the place, one a seed.
        crossed: draws of as many seeds and items; places of a task may share them.
    """
    right = {
        who: np.stack([hits(getattr(t, who), t.labels) for t in trials])
        for who in ("teacher", "control", "taught")
    }
    told = [(answers(t.taught, t.labels), answers(t.teacher, t.labels)) for t in trials]
    columns = {f"{who}_accuracy": own.astype(float) for who, own in right.items()}
    columns["accuracy"] = columns.pop("taught_accuracy")
    columns["agreement"] = np.stack([own == teacher for own, teacher in told]).astype(float)
    found: dict[str, Measured] = dict(means(columns, dict.fromkeys(columns, "fraction"), crossed))
    found["gain"] = gap(right["taught"], right["control"], crossed)
    own, teachers = (np.stack(side) for side in zip(*told, strict=True))
    found["kappa"] = cohen(own, teachers, crossed)
    return found


def _shared(places: Sequence[Sequence[Compared]]) -> Set[int]:
    """The seeds that every place has."""
    return set.intersection(*({trial.seed for trial in place} for place in places))


def _hits(
    places: Sequence[Sequence[Compared]], seeds: Set[int], who: Who
) -> Float[np.ndarray, "e n"]:
    """Where one side is right, averaged over places."""
    each = [
        np.stack([hits(getattr(t, who), t.labels) for t in place if t.seed in seeds])
        for place in places
    ]
    return np.stack(each).mean(axis=0, dtype=np.float64)


def mean_of(measures: Sequence[Mapping[str, float]], name: str) -> float:
    """A measure's mean over some places, those without it left out."""
    return _mean([each[name] for each in measures])
