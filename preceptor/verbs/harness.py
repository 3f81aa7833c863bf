"""`preceptor evaluate FOLDER --harness TASK.yaml`: a task of lm-evaluation-harness.

Dimension key: s seeds, n items.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float

from preceptor.data.tokenizers import load_tokenizer
from preceptor.errors import ModelError
from preceptor.evaluate.report import Difference, Value
from preceptor.evaluate.significance import difference, means
from preceptor.evaluate.tables import text_table
from preceptor.evaluate.words import in_words
from preceptor.files import write_text
from preceptor.models.harness import Harnessed, run_task
from preceptor.models.load import load
from preceptor.models.tapped import TappedModel
from preceptor.ops.resampling import Crossed
from preceptor.recipe.live_teacher import LiveTeacher
from preceptor.recipe.load import load_recipe
from preceptor.recipe.teachers import unaltered
from preceptor.recipe.text_subject import TextSubject
from preceptor.teachers.live import Live
from preceptor.train.fit import Losses
from preceptor.verbs.cells import Cell
from preceptor.verbs.experiment import Experiment

_ARMS = ("distilled", "control")


@final
@dataclass(frozen=True)
class TaskResult:
    """A task's numbers: each metric's mean by arm, and the student against its control.

    Args:
        task: its name.
        items: by metric and arm, one number an item and seed.
        values: by metric and arm, with its interval.
        differences: by metric, where both arms were scored and it is a rate.
        version: of the harness.
    """

    task: str
    items: Mapping[str, Mapping[str, Float[np.ndarray, "s n"]]]
    values: Mapping[str, Mapping[str, Value]]
    differences: Mapping[str, Difference]
    version: str


def evaluate_task(folder: Path, task: Path, *, show: bool = False) -> TaskResult:
    """Score a run's student, control and teacher, or the model in a folder, on a task.

    The result is also written as harness-TASK.json into the folder, item by item.

    Raises:
        ModelError: a model is no causal language model, or has no tokenizer beside it; the harness
            is not installed.
        RecipeError: there is no such task.
    """
    found = {
        arm: [_scored(place, task) for place in places] for arm, places in _models(folder).items()
    }
    if (teacher := _loaded_teacher(folder)) is not None:
        found["teacher"] = [run_task(*teacher, task.resolve())]
    first = next(iter(found.values()))[0]
    items = {
        metric: {arm: np.stack([one.items[metric] for one in each]) for arm, each in found.items()}
        for metric in first.items
    }
    draw = np.random.default_rng(0)
    values = {metric: _means(metric, columns, draw) for metric, columns in items.items()}
    differences = {
        metric: _gained(columns, draw)
        for metric, columns in items.items()
        if set(_ARMS) <= set(columns) and all(map(_rate, columns.values()))
    }
    result = TaskResult(first.task, items, values, differences, first.version)
    write_text(folder / f"harness-{_file(first.task)}.json", _as_json(result))
    if show:
        print(_as_text(result))
    return result


def _models(folder: Path) -> dict[str, list[Path]]:
    """The students of each arm's seeds and the teacher, of a run; or the one model."""
    arms = {arm: sorted(folder.glob(f"arms/{arm}/seed-*/student"), key=_seed) for arm in _ARMS}
    arms["teacher"] = sorted(folder.glob("teachers/teacher/student"))
    return {arm: places for arm, places in arms.items() if places} or {"model": [folder]}


def _loaded_teacher(folder: Path) -> tuple[TappedModel, Any] | None:
    """A run's teacher with its tokenizer, where it was loaded; None where not, or several.

    The run's data are read again: they say which tokens the teacher was given.
    """
    if not (folder / "recipe.yaml").is_file():
        return None
    recipe = load_recipe(folder / "recipe.yaml")
    said = unaltered(recipe.teacher)
    if not isinstance(said, LiveTeacher) or said.train is not None:
        return None
    experiment = Experiment(recipe, folder, _unwatched)
    subject, fixed = experiment.subject, experiment.fixed
    if not isinstance(subject, TextSubject) or not isinstance(fixed, Live):
        return None
    return fixed.model, subject.voice.of_model(said.model, subject.tokenizer)[0]


def _unwatched(cell: Cell, losses: Losses) -> None:
    """Nothing is trained."""
    del cell, losses


def _seed(place: Path) -> int:
    return int(place.parent.name.removeprefix("seed-"))


def _scored(place: Path, task: Path) -> Harnessed:
    if not (place / "tokenizer.json").is_file():
        raise ModelError(
            f"{place} was to be scored on {task.name}",
            "no tokenizer lies beside its weights",
            "Name a run of text, or a folder that transformers loads.",
        )
    return run_task(load(place), load_tokenizer(place), task.resolve())


def _means(
    metric: str, columns: Mapping[str, Float[np.ndarray, "s n"]], draw: np.random.Generator
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for arm, column in columns.items():
        unit = {metric: "fraction" if _rate(column) else "score"}
        crossed = Crossed(column.shape[0], column.shape[1], draw)
        found[arm] = means({metric: column}, unit, crossed)[metric]
    return found


def _gained(
    columns: Mapping[str, Float[np.ndarray, "s n"]], draw: np.random.Generator
) -> Difference:
    """The student against its control, paired over seeds and items."""
    hits = all(bool(np.isin(columns[arm], (0.0, 1.0)).all()) for arm in _ARMS)
    student, control = (columns[arm].astype(bool if hits else float) for arm in _ARMS)
    crossed = Crossed(student.shape[0], student.shape[1], draw)
    return difference((_ARMS[0], student), (_ARMS[1], control), None, crossed, draw)


def _rate(column: Float[np.ndarray, "s n"]) -> bool:
    return bool(((column >= 0) & (column <= 1)).all())


def _as_text(result: TaskResult) -> str:
    arms = list(next(iter(result.values.values())))
    rows = [["metric", *arms, *(["gained over the control", "p"] if result.differences else [])]]
    for metric, values in result.values.items():
        row = [metric, *(in_words(values[arm]) for arm in arms)]
        if (gained := result.differences.get(metric)) is not None:
            row += [in_words(gained.gain), in_words(gained.p)]
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    seeds, items = next(iter(next(iter(result.items.values())).values())).shape
    told = f"{result.task}: {items} items, {seeds} {'seed' if seeds == 1 else 'seeds'}, "
    return f"{told}lm-evaluation-harness {result.version}; limits are 95 % intervals.\n" + (
        text_table(rows)
    )


def _as_json(result: TaskResult) -> str:
    items: Sequence[tuple[str, dict[str, list[list[float]]]]] = [
        (metric, {arm: column.tolist() for arm, column in columns.items()})
        for metric, columns in result.items.items()
    ]
    told = {"task": result.task, "lm_eval": result.version, "items": dict(items)}
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def _file(task: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", task)
