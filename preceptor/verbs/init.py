"""`preceptor init`: write the student as it begins, and say what was done."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from preceptor.errors import RecipeError
from preceptor.recipe.load import load_recipe
from preceptor.recipe.presence import require_present
from preceptor.recipe.schema import Recipe
from preceptor.recipe.starts import InsideStart
from preceptor.train.processes import use_threads
from preceptor.verbs.check import require_fit
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.folders import open_run
from preceptor.verbs.progress import Progress


@final
@dataclass(frozen=True)
class Init:
    """A student at its start.

    Args:
        student: its folder, in the form that its ecosystem loads.
        report: what was copied, projected, selected or left random, and what the basis keeps.
    """

    student: Path
    report: str


def init(recipe: Recipe | str | Path, *, out: Path | None = None, show: bool = False) -> Init:
    """Write the first seed's student as it begins inside its teacher, which is trained if need be.

    `preceptor distill` with the same recipe and folder goes on from there. Called again it does
    nothing where all is there.

    Args:
        recipe: a recipe, a file, or a preset's name.
        out: the run's folder; runs/NAME where not given.
        show: a progress bar while a teacher is trained, and the report at the end.

    Raises:
        RecipeError: the student does not begin inside a teacher.
        ModelError: student and teacher do not fit one another, or not the basis.
    """
    read = load_recipe(recipe)
    if not isinstance(read.student.start, InsideStart):
        raise RecipeError(
            f"the recipe {read.name}",
            "its student does not begin inside a teacher",
            "Write student: {model: ..., start: {guide: {}}}, or project, select or prune.",
        )
    require_fit(read)
    require_present(read)
    folder = open_run(read, out)
    use_threads(read.threads)
    seed = read.seed.first
    with Progress(read, folder, show=show) as progress:
        starts = Experiment(read, folder, progress.watch).starts
        starts.rehearsed(seed)
        found = Init(starts.place(seed), starts.report(seed))
    if show and progress.main:
        print(f"{found.report}The student is {found.student}")
    return found
