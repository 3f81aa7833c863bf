"""`preceptor report`: finished runs side by side."""

import os
from pathlib import Path

from preceptor.errors import RecipeError
from preceptor.evaluate.album import write_page
from preceptor.evaluate.compare import (
    compare,
    comparison_html,
    comparison_markdown,
    comparison_text,
)
from preceptor.evaluate.items import Items, items_of
from preceptor.evaluate.report import Report
from preceptor.evaluate.stored import load_results
from preceptor.evaluate.tables import render_text
from preceptor.files import write_text


def report(*runs: Path | str, out: Path | None = None) -> str:
    """Finished runs as a table in text; of a single run its own report, rendered anew.

    With `out`, a folder, the comparison is also written there as HTML, Markdown
    and JSON. Runs that were tested on the same items under the same seeds are paired.
    """
    reports = {Path(run): _read(Path(run)) for run in runs}
    if len(reports) == 1 and out is None:
        run, only = next(iter(reports.items()))
        write_page(only, run)
        return render_text(only)
    labels = _labels(list(reports))
    comparison = compare(
        {labels[run]: found for run, found in reports.items()},
        {labels[run]: _items(run) for run in reports},
    )
    if out is not None:
        write_text(out / "comparison.html", comparison_html(comparison))
        write_text(out / "comparison.md", comparison_markdown(comparison))
        write_text(out / "comparison.json", comparison.to_json())
    return comparison_text(comparison)


def _labels(runs: list[Path]) -> dict[Path, str]:
    """Each run's folder, without what all of them have in front."""
    if len(runs) == 1:
        return {runs[0]: str(runs[0])}
    shared = Path(os.path.commonpath([run.absolute().parent for run in runs]))
    return {run: str(run.absolute().relative_to(shared)) for run in runs}


def _items(run: Path) -> Items | None:
    stored = load_results(run)
    return None if stored is None else items_of(stored.result)


def _read(run: Path) -> Report:
    file = run / "report.json"
    if not file.exists():
        why = "it holds no report.json, so it is no finished run"
        if not run.is_dir():
            why = "there is no such folder"
        elif (run / "study.json").exists():
            why = "it is a study, whose own page is study.html"
        do = "Name the folder of a run that `preceptor distill` finished."
        raise RecipeError(f"{run}", why, do)
    return Report.from_json(file.read_text(encoding="utf-8"))
