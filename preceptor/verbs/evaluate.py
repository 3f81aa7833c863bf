"""`preceptor evaluate`: measure a finished run again, from what lies in its folder."""

from pathlib import Path

from preceptor.errors import RecipeError
from preceptor.evaluate.tables import render_text
from preceptor.recipe.load import load_recipe
from preceptor.verbs.distill import Run, distill


def evaluate(run: Path, *, show: bool = False) -> Run:
    """Judge a run anew: its students' stored answers, their cost on this machine, the report.

    Nothing is trained: the arms must be finished.
    """
    recipe = run / "recipe.yaml"
    if not (run / "report.json").exists() or not recipe.exists():
        raise RecipeError(
            f"{run}",
            "it is no finished run: recipe.yaml and report.json are not both there",
            f"Finish it first: preceptor distill {recipe} --out {run}.",
        )
    (run / "report.json").unlink()
    judged = distill(load_recipe(recipe), out=run)
    if show:
        print(render_text(judged.report))
    return judged
