"""Whether a folder holds a finished run: answered without a look at its recipe, so at once."""

from pathlib import Path

from preceptor.errors import RecipeError


def require_finished(run: Path) -> Path:
    """The recipe of a finished run.

    Raises:
        RecipeError: it is none.
    """
    recipe = run / "recipe.yaml"
    if not recipe.exists():
        raise RecipeError(
            f"{run}",
            "it is no finished run: there is no recipe.yaml in it"
            if run.is_dir()
            else "it is no finished run: there is no such folder",
            "Name the folder of a run that `preceptor distill` finished.",
        )
    if not (run / "report.json").exists():
        raise RecipeError(
            f"{run}",
            "it is no finished run: there is no report.json in it yet",
            f"Finish it first: preceptor distill {recipe} --out {run}.",
        )
    return recipe
