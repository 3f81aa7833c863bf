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
    return each_tried(contest)


def each_tried(contest: Contest) -> list[str]:
    """Every model made and every server asked once; a line each.

    Raises:
        ModelError: a model cannot be loaded.
        ServerFailure: a server does not answer.
    """
    contest.ask_servers()
    counted = contest.parameters()
    return [
        f"candidate {name}: {counted[name]:,.0f} parameters"
        if name in counted
        else f"candidate {name}: its server answers"
        for name in contest.said.candidates.teachers
    ]


def _unwatched(cell: Cell, losses: Losses) -> None:
    del cell, losses


def _unsaid(sentence: str) -> None:
    del sentence
