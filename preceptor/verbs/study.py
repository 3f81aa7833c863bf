"""`preceptor study`: when does distillation help, whom, and is the teacher imitated?"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from preceptor.errors import PreceptorError, RecipeError
from preceptor.evaluate.study.assembly import build_study
from preceptor.evaluate.study.cells import Answered, Compared
from preceptor.evaluate.study.render import render_study, study_text
from preceptor.evaluate.study.study import Study, Trouble
from preceptor.files import write_text
from preceptor.recipe import build
from preceptor.recipe.load import load_study, plain, recipe_text
from preceptor.recipe.presence import require_present
from preceptor.recipe.study import StudyRecipe, option_words
from preceptor.recipe.study_cells import StudyCell, StudyPlan, study_plan
from preceptor.train.processes import use_threads
from preceptor.verbs.check import require_fit
from preceptor.verbs.folders import open_run
from preceptor.verbs.results import hardware, versions
from preceptor.verbs.study_training import cell_file, read_cell
from preceptor.verbs.study_workers import run_cells


@final
@dataclass(frozen=True)
class StudyRun:
    """A finished study: its folder, with `study.html` and `study.json`, and what it came to."""

    folder: Path
    study: Study


def study(
    recipe: StudyRecipe | str | Path,
    *,
    out: Path | None = None,
    fresh: bool = False,
    workers: int = 0,
    show: bool = False,
) -> StudyRun:
    """Train every cell of a grid, and set gains beside sizes, teachers and agreement.

    Killed at any moment and called again with the same arguments, it goes on where it was. A cell
    that fails is named, and tried again when the study is called again; the others go on.

    Args:
        recipe: a study's recipe, a file, or a preset's name.
        out: the study's folder; runs/NAME where not given.
        fresh: remove an earlier study from the folder first.
        workers: processes that train side by side; 0 for one a core.
        show: a bar while it runs, and what was found at the end.

    Raises:
        RecipeError: the recipe, or a place of its grid, is not valid, or its data cannot be read.
    """
    said = load_study(recipe)
    plan = study_plan(said)
    # Seeds of one place differ in nothing that could be refused.
    for each in {cell.words: cell.recipe for cell in plan.cells}.values():
        require_fit(each)
        require_present(each)
    folder = open_run(said, out, fresh=fresh)
    use_threads(plan.cells[0].recipe.threads)
    _train(said, plan, folder, workers or os.cpu_count() or 1, show=show)
    found = _judged(said, plan, folder)
    write_text(folder / "study.html", render_study(found))
    write_text(folder / "study.json", found.to_json())
    if show:
        print(study_text(found))
        print(f"\nThe report is {folder / 'study.html'}")
    return StudyRun(folder, found)


def _train(said: StudyRecipe, plan: StudyPlan, folder: Path, workers: int, *, show: bool) -> None:
    """All cells that are not there yet, teachers first."""
    known = {cell.name: read_cell(cell_file(folder, cell.name)) for cell in plan.cells}
    left = [c for c in plan.cells if (seen := known[c.name]) is None or seen.state == "failed"]
    _require_loadable(left)
    columns = (TextColumn("[bold]cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, disable=not show) as bar:
        task = bar.add_task("", total=len(plan.cells), completed=len(plan.cells) - len(left))

        def told(cell: StudyCell, found: Answered) -> None:
            bar.advance(task)
            if found.state != "done":
                words = f"{cell.words}, seed {cell.seed} {found.state}: {found.why}"
                bar.console.print(words, soft_wrap=True, markup=False)

        phases = [[c for c in left if (c.role == "teacher") == first] for first in (True, False)]
        run_cells(said, phases, folder, workers, told)


def _require_loadable(cells: Sequence[StudyCell]) -> None:
    """Load each task's data, and the tokenizers of who reads it, once before anything is trained.

    Raises:
        RecipeError: one cannot be loaded; the place in the grid is named.
    """
    seen: set[str] = set()
    for cell in cells:
        told = plain(cell.recipe)
        readers = (told["student"], told["teacher"]) if cell.recipe.data.kind == "text" else ()
        if (names := json.dumps([told["data"], *readers], sort_keys=True)) in seen:
            continue
        seen.add(names)
        try:
            build.subject(cell.recipe)
        except PreceptorError as error:
            raise RecipeError(f"at {cell.words}: {error.seen}", error.why, error.do) from None


def _judged(said: StudyRecipe, plan: StudyPlan, folder: Path) -> Study:
    cells = {cell.name: read_cell(cell_file(folder, cell.name)) for cell in plan.cells}

    def model(name: str) -> Answered:
        found = cells[name]
        assert found is not None, "every cell was trained by now"
        return found

    trials = tuple(
        Compared(
            place=(trial.task, trial.student, trial.teacher, trial.method),
            signal=trial.signal,
            option=trial.option,
            seed=trial.seed,
            taught=model(trial.taught),
            control=model(trial.control),
            teacher=model(trial.teacher_cell),
            rival=None if trial.rival is None else model(trial.rival),
        )
        for trial in plan.trials
    )
    return build_study(
        said.name,
        trials,
        options=[option_words(option) for option in said.options()],
        troubles=tuple(
            Trouble(f"{cell.words}, seed {cell.seed}", outcome.state, outcome.why)
            for cell in plan.cells
            if (outcome := model(cell.name)).state != "done"
        ),
        cells=len(plan.cells),
        seconds=sum(model(cell.name).seconds for cell in plan.cells),
        recipe=recipe_text(said),
        versions=versions(),
        hardware=hardware(),
    )
