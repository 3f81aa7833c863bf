"""`preceptor rank`: which teacher, told from the student's gradients before any distillation."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from preceptor.files import write_text
from preceptor.recipe.candidate_texts import read_texts
from preceptor.recipe.contest import training_of
from preceptor.recipe.load import load_ranking, plain
from preceptor.recipe.presence import require_present
from preceptor.recipe.ranking import RankingRecipe
from preceptor.train.processes import main_process_first, use_threads
from preceptor.verbs.progress import Progress
from preceptor.verbs.ranked import Rank as Rank
from preceptor.verbs.ranked import ranked_in
from preceptor.verbs.ranking_folders import open_ranking
from preceptor.verbs.standing import standing


def rank(
    recipe: RankingRecipe | str | Path,
    *,
    students: Sequence[Path] = (),
    out: Path | None = None,
    fresh: bool = False,
    show: bool = False,
) -> Rank:
    """Train what is to be trained, let teachers write, take features, and order the candidates.

    Killed at any moment and called again with the same arguments, it goes on where it was. With
    another score, race, choice or number of prompts it goes on in the same folder too, with the
    features that are there; with further candidates too, and theirs alone are taken.

    Args:
        recipe: a ranking's recipe, a file, or a preset's name.
        students: folders of the student's weights as it stood later, in the order of its training:
            the candidates are ranked for each too, and it is told what changed.
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
    use_threads(said.threads)
    folder = open_ranking(said, out, fresh=fresh)
    with Progress(training_of(said), folder, show=show) as progress:
        found = ranked_in(folder, said, texts, progress, later=students)
    with main_process_first() as main:
        if main:
            write_text(folder / "ranking.json", json.dumps(_told(said, found), indent=1))
    if show and progress.main:
        print(standing(found))
        print(f"The ranking is {folder / 'ranking.json'}")
    return found


def _told(said: RankingRecipe, found: Rank) -> dict[str, Any]:
    """A ranking as JSON."""
    told = asdict(found)
    del told["folder"]
    return {"recipe": plain(said), **told}
