"""`preceptor evaluate`: measure a finished run again, from what lies in its folder."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from preceptor.evaluate.album import write_page
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.report import Report
from preceptor.evaluate.selection import selected
from preceptor.evaluate.stored import Stored, load_results
from preceptor.evaluate.tables import render_text
from preceptor.files import write_text
from preceptor.verbs.finished import require_finished


def evaluate(run: Path, *, again: bool = False, show: bool = False) -> Report:
    """Judge a finished run anew and write its report.

    Everything that a model once answered, and what it cost, lies in the folder: no model is loaded.
    With `again`, teacher and costs are measured again on this machine; nothing is trained.

    Raises:
        RecipeError: the run is not finished.
    """
    require_finished(run)
    stored = None if again else load_results(run)
    judged = _measured(run) if stored is None else _judged(run, stored)
    if show:
        print(render_text(judged))
    return judged


def _judged(run: Path, stored: Stored) -> Report:
    file = run / "report.json"
    found = selected(build_report(stored.result), stored.parts)
    told = _told(json.loads(file.read_text(encoding="utf-8")), found)
    judged = Report.from_json(json.dumps({**dataclasses.asdict(found), **told}))
    write_page(judged, run)
    write_text(file, judged.to_json())
    return judged


def _told(before: dict[str, Any], found: Report) -> dict[str, Any]:
    """What an earlier report says that comes from elsewhere than the models' answers."""
    untold = {
        each.name
        for each in dataclasses.fields(Report)
        if each.default is not dataclasses.MISSING and getattr(found, each.name) == each.default
    }
    return {k: v for k, v in before.items() if k in untold | {"recipe", "phases"}}


def _measured(run: Path) -> Report:
    from preceptor.recipe.load import load_recipe
    from preceptor.verbs.distill import distill

    report, aside = run / "report.json", run / "report.json.before"
    recipe = load_recipe(run / "recipe.yaml")
    report.replace(aside)
    try:
        found = distill(recipe, out=run).report
    except BaseException:
        aside.replace(report)  # A run that is refused keeps what it had.
        raise
    aside.unlink()
    return found
