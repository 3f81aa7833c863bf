"""A recipe from a file, a preset's name or plain data, and back."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from preceptor.errors import RecipeError, nearest
from preceptor.recipe.models import MODEL_KEYS, AnyModel
from preceptor.recipe.overrides import overridden
from preceptor.recipe.problems import Invalid, recipe_error
from preceptor.recipe.ranking import RankingRecipe
from preceptor.recipe.schema import Recipe
from preceptor.recipe.section import Section, parsed
from preceptor.recipe.study import StudyRecipe
from preceptor.recipe.text import from_yaml, to_yaml

_PRESETS = Path(__file__).parent / "presets"
_RANKINGS = _PRESETS / "rankings"
_STUDIES = _PRESETS / "studies"


def preset_names() -> tuple[str, ...]:
    """The recipes that come with the package."""
    return _names_in(_PRESETS)


def ranking_names() -> tuple[str, ...]:
    """The rankings that come with the package."""
    return _names_in(_RANKINGS)


def study_names() -> tuple[str, ...]:
    """The studies that come with the package."""
    return _names_in(_STUDIES)


def _names_in(presets: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in presets.glob("*.yaml")))


def load_recipe(source: "str | Path | Recipe", settings: Iterable[str] = ()) -> Recipe:
    """A recipe from a YAML file, a preset's name, or a recipe, with settings applied.

    Relative paths in a recipe are relative to the current directory.

    Raises:
        RecipeError: where there is no such file or preset, or the recipe is not valid; it names
            every mistake.

    >>> load_recipe("digits", ["seed.count=2"]).seed.count
    2
    """
    if isinstance(source, Recipe):
        return recipe_of(overridden(plain(source), settings), source.name)
    path = _found(source, _PRESETS)
    data = from_yaml(_text(path), path.name)
    return recipe_of(overridden(data, settings), path.name, _run_name(path.stem))


def names_ranking(source: "str | Path") -> bool:
    """Whether a file or preset is a ranking's: its recipe names candidates.

    Raises:
        RecipeError: there is no such file or preset.

    >>> names_ranking("digits-teachers"), names_ranking("digits")
    (True, False)
    """
    if isinstance(source, str) and source in ranking_names() and not Path(source).is_file():
        return True
    path = _found(source, _PRESETS)
    data = from_yaml(_text(path), path.name)
    return isinstance(data, dict) and "candidates" in data


def load_ranking(
    source: "str | Path | RankingRecipe", settings: Iterable[str] = ()
) -> RankingRecipe:
    """What is to be ranked, from the same sources as a recipe.

    Raises:
        RecipeError: as `load_recipe` does.
    """
    if isinstance(source, RankingRecipe):
        return ranking_of(overridden(plain(source), settings), source.name)
    path = _found(source, _RANKINGS)
    data = from_yaml(_text(path), path.name)
    return ranking_of(overridden(data, settings), path.name, _run_name(path.stem))


def ranking_of(data: Any, called: str = "the recipe", name: str = "ranking") -> RankingRecipe:
    """Plain data as the recipe of a ranking; see `recipe_of`."""
    if not isinstance(data, dict):
        raise RecipeError(
            called,
            "it holds no mapping",
            "Begin with data:, student: and candidates:, as `preceptor/recipe/presets/rankings` "
            "do.",
        )
    try:
        return parsed(RankingRecipe, {"name": name, **data})
    except Invalid as error:
        raise recipe_error(error.mistakes, called) from None


def load_study(source: "str | Path | StudyRecipe", settings: Iterable[str] = ()) -> StudyRecipe:
    """A study, from the same sources as a recipe; its `recipe` may be the name of one.

    Raises:
        RecipeError: as `load_recipe` does.
    """
    if isinstance(source, StudyRecipe):
        return study_of(overridden(plain(source), settings), source.name)
    path = _found(source, _STUDIES)
    data = from_yaml(_text(path), path.name)
    if isinstance(data, dict) and isinstance(data.get("recipe"), str):
        named = _found(data["recipe"], _PRESETS)
        data = data | {"recipe": from_yaml(_text(named), named.name)}
    return study_of(overridden(data, settings), path.name, _run_name(path.stem))


def study_of(data: Any, called: str = "the study", name: str = "study") -> StudyRecipe:
    """Plain data as a study; see `recipe_of`."""
    if not isinstance(data, dict):
        raise RecipeError(
            called,
            "it holds no mapping",
            "Begin with recipe: and grid:, as `preceptor/recipe/presets/studies` do.",
        )
    try:
        return parsed(StudyRecipe, {"name": name, **data})
    except Invalid as error:
        raise recipe_error(error.mistakes, called) from None


def recipe_of(data: Any, called: str = "the recipe", name: str = "recipe") -> Recipe:
    """Plain data as a recipe; `name` is the run's where the data gives none.

    Raises:
        RecipeError: with every mistake, its path, and what may stand there.
    """
    if not isinstance(data, dict):
        raise RecipeError(
            called,
            "it holds no mapping",
            "Begin with data:, teacher:, student: and stages:, as `preceptor/recipe/presets` do.",
        )
    try:
        return parsed(Recipe, {"name": name, **data})
    except Invalid as error:
        raise recipe_error(error.mistakes, called) from None


def model_of(text: str) -> AnyModel:
    """A model as a command line names it.

    `resnet8x4` (the zoo), `timm:NAME`, `transformers:NAME`, a folder, `package.module:function`, or
    a recipe's whole mapping such as `{zoo: resnet8x4, size: 8}`.

    Raises:
        RecipeError: where the mapping is not one of a model.

    >>> model_of("timm:resnet18").timm
    'resnet18'
    """
    prefix, colon, rest = text.partition(":")
    if text.lstrip().startswith("{"):
        data = from_yaml(text, "the model")
    elif colon and prefix in MODEL_KEYS:
        data = {prefix: rest}
    elif Path(text).is_dir():
        data = {"folder": text}
    else:
        data = {"factory" if colon else "zoo": text}
    try:
        return parsed(AnyModel, data)
    except Invalid as error:
        raise recipe_error(error.mistakes, "the model") from None


def plain(recipe: Section) -> dict[str, Any]:
    """A recipe as plain data with every field: what `recipe_of` takes back."""
    return recipe.model_dump(mode="json")


def recipe_text(recipe: Section) -> str:
    """A recipe as YAML with every field: what `load_recipe` takes back."""
    return to_yaml(plain(recipe))


def _found(source: "str | Path", presets: Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        raise RecipeError(f"{path}", "it is a folder", f"Name a file, such as {path}/recipe.yaml.")
    if isinstance(source, str) and source in _names_in(presets):
        return presets / f"{source}.yaml"
    near = nearest(path.stem, _names_in(presets))
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        here = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        files = f"; nearest file there: {nearest(path.name, here, 1)}" if here else ""
        why = f"there is no such file{files}; nearest presets: {near}"
    else:
        why = f"it is neither a file nor a preset; nearest presets: {near}"
    raise RecipeError(f"recipe {str(source)!r}", why, "Correct the name.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}", f"it cannot be read ({error})", "Give a text file.") from None


def _run_name(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-") or "recipe"
