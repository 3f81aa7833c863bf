"""`preceptor distill`: the main job, from the teacher's training to the report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import final

from preceptor.evaluate.album import write_page
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.report import Report
from preceptor.evaluate.selection import selected
from preceptor.evaluate.stored import Stored, save_results
from preceptor.evaluate.tables import render_text
from preceptor.files import write_text
from preceptor.recipe.load import load_recipe
from preceptor.recipe.presence import require_present
from preceptor.recipe.schema import STUDENT, Recipe
from preceptor.train.processes import main_process_first, use_threads
from preceptor.train.record import read
from preceptor.verbs.beforehand import decided
from preceptor.verbs.cards import write_cards
from preceptor.verbs.cells import Cell, finished, student_folder
from preceptor.verbs.check import require_fit
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.folders import open_run
from preceptor.verbs.progress import Progress
from preceptor.verbs.rehearsal import rehearse
from preceptor.verbs.results import fixed_teacher, run_result
from preceptor.verbs.tuning import tuned


@final
@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its report, and where the first seed's student lies."""

    folder: Path
    report: Report
    student: Path


def distill(
    recipe: Recipe | str | Path,
    *,
    out: Path | None = None,
    fresh: bool = False,
    show: bool = False,
) -> Run:
    """Train the teacher, distil, train the arms without it, evaluate and report.

    Killed at any moment and called again with the same arguments, it goes on where it was and
    ends with the same students and metrics. A finished run is not run again.

    Args:
        recipe: a recipe, a file, or a preset's name.
        out: the run's folder; runs/NAME where not given.
        fresh: remove an earlier run from the folder first.
        show: a progress bar while it runs and a table at the end.
    """
    read_recipe = load_recipe(recipe)
    require_fit(read_recipe)
    folder = open_run(read_recipe, out, fresh=fresh)
    use_threads(read_recipe.threads)
    with Progress(read_recipe, folder, show=show) as progress:
        found = decided(read_recipe, folder, progress)
        experiment = Experiment(found.recipe, folder, progress.watch)
        if (folder / "report.json").exists():
            progress.say(f"{folder} holds this run, finished: nothing is trained again.")
        else:
            require_present(read_recipe)
            report, arms = judged(experiment, progress)
            report = found.told(report, read_recipe)
            with main_process_first() as main:
                if main:
                    _write(folder, experiment, arms, report)
    report = Report.from_json((folder / "report.json").read_text())
    if show and progress.main:
        print(render_text(report))
        print(f"\nThe report is {folder / 'report.html'}")
    first = experiment.distilled(read_recipe.seed.first, tuned(experiment, STUDENT))
    return Run(folder, report, student_folder(first[-1]))


def judged(experiment: Experiment, progress: Progress) -> tuple[Report, dict[str, list[Cell]]]:
    """Everything but the report's files: the teachers, the arms, and what they came to."""
    if not (experiment.folder / "arms").exists():
        rehearse(experiment)
    teacher = fixed_teacher(experiment, progress)
    for variant in map(experiment.taught_as, experiment.recipe.variants):
        if set(variant.said_teachers()) != {"teacher"}:
            fixed_teacher(variant, progress)
    arms = trained_arms(experiment, progress)
    phases = {
        "teacher": sum(
            finished(cell).seconds for cell in experiment.ways_teachers() if cell.done()
        ),
        "arms": sum(finished(cell).seconds for cells in arms.values() for cell in cells),
    }
    result = run_result(experiment, teacher, arms, phases)
    report = build_report(result)
    with main_process_first() as main:
        if main:
            save_results(Stored(result, experiment.recipe.evaluate), experiment.folder)
    return selected(report, experiment.recipe.evaluate), arms


def trained_arms(experiment: Experiment, progress: Progress) -> dict[str, list[Cell]]:
    """Every arm's finished cells, seed by seed; tuned first where the recipe says so."""
    recipe = experiment.recipe
    names = (*recipe.ways(), *recipe.control.arms)
    rates = {name: tuned(experiment, name) for name in names}
    plan = [
        cell
        for seed in recipe.seed.values()
        for name in names
        for cell in _cells(experiment, name, seed, rates[name])
    ]
    progress.plan(plan)
    arms: dict[str, list[Cell]] = {}
    for cell in plan:
        experiment.run(cell)
        arms.setdefault(cell.arm, []).append(cell)
    return arms


def _cells(experiment: Experiment, arm: str, seed: int, lr: float | None) -> list[Cell]:
    if arm == STUDENT:
        return list(experiment.distilled(seed, lr))
    if arm in experiment.recipe.variants:
        return [experiment.taught_as(arm).distilled(seed, lr)[-1]]
    members = range(len(experiment.students()) if arm == "control" else 1)
    return [experiment.plain(arm, seed, lr, member) for member in members]


def _write(
    folder: Path, experiment: Experiment, arms: dict[str, list[Cell]], report: Report
) -> None:
    """The run's files; the report's JSON last, so that where it is everything is."""
    lines = [
        json.dumps({"arm": cell.arm, "seed": cell.seed, "stage": stage, **entry})
        for cell in (*experiment.every_teacher(), *(c for cells in arms.values() for c in cells))
        for stage in range(len(cell.stretches))
        for entry in read(cell.folder / f"stage-{stage}" / "metrics.jsonl")
    ]
    text = "\n".join(lines) + "\n"
    write_text(folder / "metrics.jsonl", text)
    write_cards(experiment.recipe, report, arms[STUDENT])
    write_page(report, folder)
    write_text(folder / "report.json", report.to_json())
