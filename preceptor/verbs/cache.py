"""`preceptor cache`: write a teacher's signals to disk once."""

from pathlib import Path

from preceptor.errors import RecipeError
from preceptor.recipe.load import load_recipe
from preceptor.recipe.schema import Recipe
from preceptor.recipe.teachers import CachedTeacher
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.folders import open_run
from preceptor.verbs.progress import Progress


def cache(recipe: Recipe | str | Path, *, out: Path | None = None, show: bool = False) -> Path:
    """Write the signals that a recipe's cached teacher reads; trains that teacher if need be.

    Called again it goes on where it was stopped, and does nothing where all is there.
    Gives the folder of the signals.
    """
    read = load_recipe(recipe)
    said = read.teacher
    if not isinstance(said, CachedTeacher):
        raise RecipeError(
            f"the recipe {read.name}",
            "its teacher is not a cached one",
            "Write teacher: {cached: {teacher: {...}, folder: FOLDER}}.",
        )
    folder = open_run(read, out)
    with Progress(read, folder, show=show) as progress:
        Experiment(read, folder, progress.watch).teacher(said, (), "teacher")
    return Path(said.cached.folder)
