"""A recipe whose teacher a ranking finds: the ranking that it asks for, and what it may become."""

from dataclasses import replace
from typing import Any

from preceptor.recipe.load import plain
from preceptor.recipe.problems import Invalid, Problem, recipe_error
from preceptor.recipe.ranked import AnyWriter, RankFields, RankTeacher
from preceptor.recipe.ranking import RankingRecipe
from preceptor.recipe.rollouts import SequenceRollouts
from preceptor.recipe.schema import Recipe, Stage
from preceptor.recipe.section import parsed
from preceptor.recipe.teachers import (
    AlteredTeacher,
    AnyTeacher,
    CachedTeacher,
    EnsembleFields,
    EnsembleTeacher,
    unaltered,
)

_SAME = ("score", "features", "prompts", "responses", "seed", "race", "grace", "narrow")
"""What a ranking's recipe says in the same words."""

_BELOW = ("teacher", "rank")


def rank_of(recipe: Recipe) -> RankFields | None:
    """What is said of the ranking; None where the teacher is named."""
    said = unaltered(recipe.teacher)
    return said.rank if isinstance(said, RankTeacher) else None


def ranking_in(recipe: Recipe, fields: RankFields) -> RankingRecipe:
    """The ranking that finds a recipe's teacher: for its student, on its training data.

    Raises:
        RecipeError: it cannot be, at the place in the recipe that says so.
    """
    whole, said = plain(recipe), fields.model_dump(mode="json")
    data: dict[str, Any] = {
        "name": recipe.name,
        "data": whole["data"],
        "student": {**whole["student"], "train": said["warm_up"]},
        "candidates": {"teachers": said["of"]},
        "choose": {"cost": said["cost"], "limit": said["limit"]},
        "threads": recipe.threads,
        "checkpoint": whole["checkpoint"],
        **{name: said[name] for name in _SAME},
    }
    try:
        return parsed(RankingRecipe, data)
    except Invalid as error:
        raise recipe_error([_placed(each) for each in error.mistakes], recipe.name) from None


def _placed(problem: Problem) -> Problem:
    """A mistake where a reader of the recipe finds it."""
    path = problem.path
    if path[:2] == ("candidates", "teachers"):
        path = (*_BELOW, "of", *path[2:])
    elif path[:2] == ("student", "train"):
        path = (*_BELOW, "warm_up", *path[2:])
    elif path[:1] == ("choose",):
        path = (*_BELOW, *path[1:])
    elif path[:1] and path[0] in _SAME:
        path = (*_BELOW, *path)
    return replace(problem, path=path)


def possible(recipe: Recipe) -> list[Recipe]:
    """All that a recipe may become: itself alone where its teacher is named.

    Raises:
        RecipeError: the ranking cannot be.
    """
    fields = rank_of(recipe)
    if fields is None:
        return [recipe]
    ranking_in(recipe, fields)
    teachers = {name: said.teacher() for name, said in fields.of.items()}
    if fields.ensemble > 1:
        return [taught_by(recipe, list(teachers.values()))]
    return [taught_by(recipe, [teacher]) for teacher in teachers.values()]


def joined(chosen: list[AnyTeacher]) -> AnyTeacher:
    """One teacher, or several as an ensemble."""
    if len(chosen) == 1:
        return chosen[0]
    return EnsembleTeacher(ensemble=EnsembleFields(members=tuple(chosen)))


def taught_by(recipe: Recipe, chosen: list[AnyTeacher]) -> Recipe:
    """The recipe with these in the place of the ranking."""
    return recipe.model_copy(update={"teacher": _put(recipe.teacher, joined(chosen))})


def _put(said: AnyTeacher, chosen: AnyTeacher) -> AnyTeacher:
    if isinstance(said, CachedTeacher):
        inner = {"teacher": _put(said.cached.teacher, chosen)}
        return CachedTeacher(cached=said.cached.model_copy(update=inner))
    if isinstance(said, AlteredTeacher):
        inner = {"teacher": _put(said.altered.teacher, chosen)}
        return AlteredTeacher(altered=said.altered.model_copy(update=inner))
    return chosen


def written_at(recipe: Recipe, whom: AnyWriter, temperature: float, first: int = 0) -> Recipe:
    """The recipe whose teacher's text (`sequence_kd`) is drawn as its best candidate's was.

    Nothing changes where one temperature alone was ranked.

    Args:
        recipe: the recipe.
        whom: whose candidate it was.
        temperature: the candidate's.
        first: the first stage that it teaches.
    """
    if len(whom.temperatures) == 1:
        return recipe

    def drawn(stage: Stage) -> Stage:
        if not isinstance(stage.rollouts, SequenceRollouts):
            return stage
        said = {"temperature": temperature, "top_p": whom.top_p}
        fields = stage.rollouts.sequence_kd.model_copy(update=said)
        return stage.model_copy(update={"rollouts": SequenceRollouts(sequence_kd=fields)})

    stages = tuple(drawn(s) if i >= first else s for i, s in enumerate(recipe.stages))
    return recipe.model_copy(update={"stages": stages})
