"""`preceptor rank`: which teacher, told from the student's gradients before any distillation."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from preceptor.files import write_text
from preceptor.recipe.candidates import read_texts
from preceptor.recipe.contest import lasting, training_of
from preceptor.recipe.load import load_ranking, plain
from preceptor.recipe.presence import require_present
from preceptor.recipe.ranking import RankingRecipe
from preceptor.selection.racing import Dropped, race
from preceptor.selection.ranking import Ranking
from preceptor.selection.ranking import rank as ranked
from preceptor.train.processes import use_threads
from preceptor.verbs.chosen import Chosen, chosen
from preceptor.verbs.contest import Contest
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.folders import open_run
from preceptor.verbs.progress import Progress
from preceptor.verbs.standing import standing


@final
@dataclass(frozen=True)
class Rank:
    """A finished ranking.

    Args:
        folder: the run's, with `ranking.json` and the features.
        ranking: of those that answered all prompts.
        dropped: whom a race left behind, the last to leave first.
        chosen: what is chosen from it.
        cautions: the ranking's own, and those of how the text was made.
    """

    folder: Path
    ranking: Ranking
    dropped: tuple[Dropped, ...]
    chosen: Chosen
    cautions: tuple[str, ...]


def rank(
    recipe: RankingRecipe | str | Path,
    *,
    out: Path | None = None,
    fresh: bool = False,
    show: bool = False,
) -> Rank:
    """Train what is to be trained, let teachers write, take features, and order the candidates.

    Killed at any moment and called again with the same arguments, it goes on where it was. With
    another score, race, choice or number of prompts it goes on in the same folder too, with the
    features that are there.

    Args:
        recipe: a ranking's recipe, a file, or a preset's name.
        out: the run's folder; runs/NAME where not given.
        fresh: remove an earlier run from the folder first.
        show: how far it is while it runs, and a table at the end.

    Raises:
        RecipeError: the recipe is not valid, or the folder holds another one's run.
        DataError: texts cannot be read, are too long, or are too few.
        NeedsError: candidates answer other prompts.
        ModelError: the student has no gradients to give.
    """
    said = load_ranking(recipe)
    require_present(said)
    texts = read_texts(said.candidates.texts)
    training = training_of(said)
    use_threads(said.threads)
    folder = open_run(lasting(said), out, fresh=fresh)
    with Progress(training, folder, show=show) as progress:
        experiment = Experiment(training, folder, progress.watch)
        contest = Contest(said, experiment, texts, progress.say)
        contest.require_fit()
        progress.plan(contest.cells())
        found = _ranked(said, contest, folder)
    write_text(folder / "ranking.json", json.dumps(_told(said, found), indent=1))
    if show and progress.main:
        print(standing(found.ranking, found.dropped, found.chosen, found.cautions))
        print(f"The ranking is {folder / 'ranking.json'}")
    return found


def _ranked(said: RankingRecipe, contest: Contest, folder: Path) -> Rank:
    score, beside = said.scores()
    stores, prompts = contest.stores(), contest.prompts()
    if said.race is None:
        features = {name: store(prompts) for name, store in stores.items()}
        dropped: tuple[Dropped, ...] = ()
        ranking = ranked(features, score, beside=beside, seed=said.seed)
    else:
        raced = race(
            list(stores),
            prompts,
            lambda name, asked: stores[name](np.sort(asked)),
            score,
            plan=said.race.race(said.seed),
            beside=beside,
        )
        ranking, dropped = raced.ranking, raced.dropped
    cautions = (*contest.cautions(), *ranking.cautions)
    return Rank(folder, ranking, dropped, chosen(said, ranking), cautions)


def _told(said: RankingRecipe, found: Rank) -> dict[str, Any]:
    """A ranking as JSON."""
    return {
        "recipe": plain(said),
        "ranking": asdict(found.ranking),
        "dropped": [asdict(each) for each in found.dropped],
        "chosen": asdict(found.chosen),
        "cautions": found.cautions,
    }
