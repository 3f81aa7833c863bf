"""Whether a folder holds a finished run: answered without a look at its recipe, so at once."""

from pathlib import Path

from preceptor.errors import RecipeError


def require_finished(run: Path) -> Path:
    """The recipe of a finished run.

    Raises:
        RecipeError: it is none.
    """
    recipe = run / "recipe.yaml"
    if not (run / "report.json").exists() or not recipe.exists():
        raise RecipeError(
            f"{run}",
            "it is no finished run: recipe.yaml and report.json are not both there",
            f"Finish it first: preceptor distill {recipe} --out {run}.",
        )
    return recipe
