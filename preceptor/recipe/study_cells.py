"""What a study trains: each model once, however many comparisons it stands in.

A *cell* is one model to be trained: a teacher, a control, or a student that was taught. Its name is
a hash of all that its training depends on, so that cells which differ in nothing are one, and a
study that is started again finds what is there. A *trial* is one comparison: a student that was
taught, the same student that was not, the teacher, and the same teacher from another seed.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, final

from preceptor.errors import RecipeError
from preceptor.recipe import build
from preceptor.recipe.data import SentenceData, TextData
from preceptor.recipe.load import plain, recipe_of
from preceptor.recipe.overrides import with_values
from preceptor.recipe.schema import Recipe
from preceptor.recipe.study import TRUE, Changes, StudyRecipe, option_words
from preceptor.recipe.teachers import (
    AlteredTeacher,
    AnyTeacher,
    CachedTeacher,
    EnsembleTeacher,
    LiveTeacher,
    kind_of,
    unaltered,
)

Role = Literal["teacher", "control", "taught"]

_ASIDE = ("name", "evaluate", "trackers", "checkpoint", "control", "variants", "tune", "threads")
"""What changes no weight of a cell; arms and variants are the grid's business in a study."""


@final
@dataclass(frozen=True)
class StudyCell:
    """One model to be trained.

    Args:
        name: of its file; the same for all that trains the same.
        role: what it is.
        seed: of its weights and draws.
        recipe: an ordinary recipe of this one seed.
        teacher: the cell of its teacher, for a student that was taught or begins inside one.
        words: where in the grid it stands first.
    """

    name: str
    role: Role
    seed: int
    recipe: Recipe
    teacher: str | None
    words: str


@final
@dataclass(frozen=True)
class Trial:
    """One comparison, by names of cells.

    Args:
        task, student, teacher, method: the place in the grid.
        signal: "true", or how the teacher's answers were altered.
        option: what was chosen among, in words; empty where nothing is.
        seed: of all its cells.
        taught, control, teacher_cell: cells.
        rival: the same teacher trained from another seed; None where there is none.
    """

    task: str
    student: str
    teacher: str
    method: str
    signal: str
    option: str
    seed: int
    taught: str
    control: str
    teacher_cell: str
    rival: str | None


@final
@dataclass(frozen=True)
class StudyPlan:
    """All cells, teachers first, and the trials that they stand in."""

    cells: tuple[StudyCell, ...]
    trials: tuple[Trial, ...]


def study_plan(said: StudyRecipe) -> StudyPlan:
    """Every cell and trial of a study.

    Raises:
        RecipeError: a place in the grid makes no valid recipe; the place is named. Or its teacher
            is no model, or its data have no answers that are right or wrong.
    """
    cells: dict[str, StudyCell] = {}
    trials: list[Trial] = []
    for place in said.grid.places():
        for signal, option, changes in _variations(said, place):
            words = ", ".join(
                (*place, *([] if signal == TRUE else [signal]), *filter(None, [option]))
            )
            recipe = _recipe(said, changes, words)
            trials += _trials(recipe, place, signal, option, words, cells)
    order = {"teacher": 0, "control": 1, "taught": 1}
    return StudyPlan(
        tuple(sorted(cells.values(), key=lambda cell: order[cell.role])), tuple(trials)
    )


def _variations(
    said: StudyRecipe, place: tuple[str, str, str, str]
) -> list[tuple[str, str, Changes]]:
    """Signal, option and changes of all that is tried at a place."""
    own = said.grid.changes(place)
    found = [(TRUE, option_words(option), own | option) for option in said.options()]
    if said.signals is not None and said.signals.holds(place):
        as_said = {key: _value(with_values(said.recipe, own), key) for key in said.choose}
        if option_words(as_said) not in [option for _, option, _ in found]:
            found.append((TRUE, option_words(as_said), own | as_said))
        for name, fields in said.signals.alter.items():
            altered = {_SIGNAL: plain(fields)}
            found.append((name, option_words(as_said), own | as_said | altered))
    return found


_SIGNAL = "teacher.altered"


def _value(data: Any, path: str) -> Any:
    """What stands at a dotted key."""
    here = data
    for key in path.split("."):
        try:
            here = here[int(key)] if isinstance(here, list) else here[key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise RecipeError(
                f"choose: {path}",
                "the recipe says nothing there, and altered signals keep what it says",
                "Write the key in `recipe`.",
            ) from None
    return here


def _recipe(said: StudyRecipe, changes: Changes, words: str) -> Recipe:
    """One place's recipe, all its seeds together."""
    altered = changes.get(_SIGNAL)
    try:
        data = with_values(said.recipe, {k: v for k, v in changes.items() if k != _SIGNAL})
        if altered is not None:
            data["teacher"] = {"altered": {**altered, "teacher": data.get("teacher")}}
        found = recipe_of(data, "the recipe", said.name)
    except RecipeError as error:
        raise RecipeError(f"at {words}: {error.seen}", error.why, error.do) from None
    _require_comparable(found, words)
    return found


def _require_comparable(recipe: Recipe, words: str) -> None:
    """Raise where teacher and students cannot be asked for answers that are right or wrong."""
    whose, data = unaltered(recipe.teacher), recipe.data
    if not build.stands_still(whose):
        raise RecipeError(
            f"the teacher {kind_of(whose)} at {words}",
            "gains are set beside the teacher's own accuracy, and it has none",
            "Name a model, or an ensemble of models.",
        )
    if _cached(recipe.teacher):
        raise RecipeError(
            f"a cached teacher at {words}",
            "a study's cells are trained side by side, each seed by a teacher of its own, and one "
            "folder would hold the signals of all",
            "Name the teacher itself, without `cached`.",
        )
    if isinstance(data, SentenceData):
        raise RecipeError(
            f"data of kind sentences at {words}",
            "answers are compared, right or wrong, and embeddings are none",
            "Name images, tables, tasks with classes, or text with `verify`.",
        )
    if isinstance(data, TextData) and data.verify is None:
        raise RecipeError(
            f"text without data.verify at {words}",
            "nothing says which answers are right",
            "Add data.verify: {by: exact}, numeric, regex or choice.",
        )
    several = isinstance(whose, EnsembleTeacher)
    if isinstance(data, TextData) and several and data.verify and data.verify.by != "choice":
        raise RecipeError(
            f"an ensemble that is to write answers, at {words}",
            "several models write no one text",
            "Verify by choice, or name one model as the teacher.",
        )


def _cached(said: AnyTeacher) -> bool:
    """Whether there is a cache in a teacher."""
    if isinstance(said, AlteredTeacher):
        return _cached(said.altered.teacher)
    return isinstance(said, CachedTeacher)


def _is_trained(said: AnyTeacher) -> bool:
    """Whether any model of a teacher is trained by the study, so that seeds differ."""
    if isinstance(said, EnsembleTeacher):
        return any(map(_is_trained, said.ensemble.members))
    return isinstance(said, LiveTeacher) and said.train is not None


def _trials(
    recipe: Recipe,
    place: tuple[str, str, str, str],
    signal: str,
    option: str,
    words: str,
    cells: dict[str, StudyCell],
) -> list[Trial]:
    teachers: dict[int, str] = {}
    told = plain(recipe)
    for seed in recipe.seed.values():
        cell = _teacher_cell(recipe, told, seed, f"teacher {place[2]} of {place[0]}")
        teachers[seed] = cells.setdefault(cell.name, cell).name
    found = []
    for index, (seed, teacher) in enumerate(teachers.items()):
        taught = _cell("taught", recipe, told, seed, teacher, words)
        control = _control_cell(recipe, told, seed, teacher, f"control of {words}")
        for cell in (taught, control):
            cells.setdefault(cell.name, cell)
        others = list(dict.fromkeys(teachers.values()))
        rival = others[(index + 1) % len(others)] if len(others) > 1 else None
        found.append(Trial(*place, signal, option, seed, taught.name, control.name, teacher, rival))
    return found


def _teacher_cell(recipe: Recipe, told: dict[str, Any], seed: int, words: str) -> StudyCell:
    """One a seed where it is trained; a teacher that brings its weights is the same for all."""
    whose = unaltered(recipe.teacher)
    alone = recipe.model_copy(update={"teacher": whose})
    said = {"data": told["data"], "teacher": plain(whose)}
    seed = seed if _is_trained(whose) else recipe.seed.first
    return StudyCell(
        _hashed("teacher", said, seed), "teacher", seed, _of_seed(alone, seed), None, words
    )


def _control_cell(
    recipe: Recipe, told: dict[str, Any], seed: int, teacher: str, words: str
) -> StudyCell:
    """The control depends on plans alone, unless it begins inside the teacher."""
    inside = teacher if recipe.student.start != "random" else None
    said = {
        "data": told["data"],
        "student": told["student"],
        "plans": [[stage["plan"], stage["data"]] for stage in told["stages"]],
        "teacher": inside,
    }
    return StudyCell(
        _hashed("control", said, seed), "control", seed, _of_seed(recipe, seed), teacher, words
    )


def _cell(
    role: Role, recipe: Recipe, told: dict[str, Any], seed: int, teacher: str, words: str
) -> StudyCell:
    said = {key: value for key, value in told.items() if key not in (*_ASIDE, "seed")}
    return StudyCell(_hashed(role, said, seed), role, seed, _of_seed(recipe, seed), teacher, words)


def _of_seed(recipe: Recipe, seed: int) -> Recipe:
    seeds = recipe.seed.model_copy(update={"first": seed, "count": 1})
    return recipe.model_copy(update={"seed": seeds})


def _hashed(role: str, said: Any, seed: int) -> str:
    text = json.dumps([role, said, seed], sort_keys=True)
    return f"{role}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
