"""`preceptor cache`: write a teacher's signals to disk once, and look at what was written."""

from pathlib import Path

from preceptor.errors import RecipeError
from preceptor.recipe.load import load_recipe
from preceptor.recipe.schema import Recipe
from preceptor.recipe.teachers import CachedTeacher
from preceptor.teachers.tokens.codecs import TopKCodec
from preceptor.teachers.tokens.inspection import inspect
from preceptor.teachers.tokens.resparsify import resparsify
from preceptor.teachers.tokens.store import TokenStore
from preceptor.verbs.beforehand import decided
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
        whole = decided(read, folder, progress).recipe
        Experiment(whole, folder, progress.watch).teacher(whole.teacher, (), "teacher")
    return Path(said.cached.folder)


def inspected(folder: Path) -> str:
    """A token cache in numbers: its size a token, and how much of the teacher it covers."""
    return str(inspect(folder))


def thinned(folder: Path, to: Path, top_k: int) -> str:
    """A token cache with fewer of the largest probabilities, written without the teacher."""
    held = TokenStore.open(folder).manifest.codec
    temperature = held.at or 1.0
    resparsify(folder, to, TopKCodec(top_k, temperature))
    return inspected(to)
