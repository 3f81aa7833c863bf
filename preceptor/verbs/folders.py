"""A run's folder: which recipe it belongs to."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from preceptor.errors import RecipeError
from preceptor.files import write_text
from preceptor.recipe.load import recipe_text
from preceptor.recipe.ranking import RankingRecipe
from preceptor.recipe.schema import Recipe
from preceptor.recipe.study import StudyRecipe
from preceptor.train.processes import main_process_first

_SHOWN = 3


def open_run(
    recipe: Recipe | RankingRecipe | StudyRecipe, out: Path | None, *, fresh: bool = False
) -> Path:
    """The run's folder with its resolved recipe; `runs/NAME` where no other is named.

    A folder of the same recipe is gone on with; one of another recipe is refused.
    """
    folder = out or Path("runs") / recipe.name
    resolved = recipe_text(recipe)
    written = folder / "recipe.yaml"
    with main_process_first() as main:
        if main:
            _open(folder, written, resolved, fresh=fresh)
    return folder


def _open(folder: Path, written: Path, resolved: str, *, fresh: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise RecipeError(
            f"{folder}", "it is a file, and a run needs a folder", "Choose another --out."
        )
    if fresh:
        _empty(folder, written)
    _sweep(folder)
    if written.exists() and written.read_text() != resolved:
        if [held.name for held in folder.iterdir()] == [written.name]:
            # It was refused before anything was made, and mended since.
            write_text(written, resolved)
            return
        raise RecipeError(
            f"{folder} holds a run of another recipe: {_difference(written, resolved)}",
            "going on would mix two runs",
            "Choose another folder with --out, or start anew with --fresh.",
        )
    if folder.is_dir() and not written.exists() and any(folder.iterdir()):
        raise RecipeError(
            f"{folder} is not empty and holds no run",
            "what is in it would be mixed with the run's files",
            "Choose another folder with --out.",
        )
    if not written.exists():
        write_text(written, resolved)


def _difference(written: Path, resolved: str) -> str:
    """The first keys in which two recipes differ, with what each of them says."""
    before, now = (_flat(yaml.safe_load(text)) for text in (written.read_text(), resolved))
    nothing = "nothing"
    keys = [key for key in {**before, **now} if before.get(key, nothing) != now.get(key, nothing)]
    told = [f"{k} was {before.get(k, nothing)}, is {now.get(k, nothing)}" for k in keys[:_SHOWN]]
    more = f"; {len(keys) - _SHOWN} more keys" if len(keys) > _SHOWN else ""
    return "; ".join(told) + more


def _flat(said: Any, path: str = "") -> dict[str, Any]:
    """Each value by its path."""
    if isinstance(said, dict | list) and said:
        parts = said.items() if isinstance(said, dict) else enumerate(said)
        return {k: v for name, part in parts for k, v in _flat(part, f"{path}.{name}").items()}
    return {path.removeprefix("."): said}


def _sweep(folder: Path) -> None:
    """Remove what a killed process was about to put in place, or to remove, when it died."""
    for pattern in (".tmp-*", ".trash-*", ".writing-*"):
        for left in list(folder.glob(f"**/{pattern}")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _empty(folder: Path, written: Path) -> None:
    """Remove an earlier run; a folder that is none is left alone."""
    if written.exists():
        shutil.rmtree(folder)
