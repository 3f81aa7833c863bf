"""`preceptor check --deep` of candidates: each is made, and put together with the student."""

from pathlib import Path

from preceptor.recipe.beforehand import possible, rank_of, ranking_in
from preceptor.recipe.candidate_texts import Texts
from preceptor.recipe.contest import training_of
from preceptor.recipe.schema import Recipe
from preceptor.train.fit import Losses
from preceptor.verbs.cells import Cell
from preceptor.verbs.contest import Contest
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.pupil import Pupil
from preceptor.verbs.rehearsal import rehearse


def tried_candidates(recipe: Recipe, folder: Path) -> list[str]:
    """What a recipe's ranking refuses before it trains anybody; a line a candidate.

    Raises:
        RecipeError: nobody is within the limit.
        DataError: prompts are too few, or leave no room for answers.
        ModelError: a candidate cannot be loaded, or does not fit the student's stages.
    """
    fields = rank_of(recipe)
    if fields is None:
        return []
    for one in possible(recipe):
        rehearse(Experiment(one, folder, _unwatched))
    said = ranking_in(recipe, fields)
    experiment = Experiment(training_of(said), folder, _unwatched)
    as_made = said.student.model_copy(update={"train": None})
    pupil = Pupil(as_made, experiment, folder, said.features, recipe.seed.first, _unsaid)
    contest = Contest(said, experiment, Texts(), pupil.device)
    pupil.require_fit()
    contest.require_fit()
    return [told(name, count) for name, count in contest.parameters().items()]


def told(name: str, parameters: float) -> str:
    """A candidate that was made, in a line."""
    return f"candidate {name}: {parameters:,.0f} parameters"


def _unwatched(cell: Cell, losses: Losses) -> None:
    del cell, losses


def _unsaid(sentence: str) -> None:
    del sentence
