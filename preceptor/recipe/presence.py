"""Whether what a recipe names is there: files, folders, models of the zoo. Nothing is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preceptor.data.loading import check_source
from preceptor.errors import ModelError
from preceptor.models import zoo
from preceptor.models.encoders import located
from preceptor.recipe.models import EncoderModel, FolderModel, ZooModel
from preceptor.recipe.schema import Data, FromFolder, Recipe, Splits
from preceptor.recipe.section import Section
from preceptor.recipe.teachers import LiveTeacher


def require_present(recipe: Recipe) -> None:
    """Raise, in the words that a run would use, where something named does not exist."""
    for section in _sections(recipe):
        if isinstance(section, ZooModel):
            zoo.find(section.zoo)
        elif isinstance(section, EncoderModel):
            located(section.encoder)
        elif isinstance(section, FolderModel | FromFolder):
            _require_folder(section.folder)
        elif isinstance(section, LiveTeacher) and section.load is not None:
            _require_folder(section.load)
        elif isinstance(section, Splits):
            check_source(section.train)
            check_source(section.test)
        elif isinstance(section, Data) and isinstance(section.source, str):
            check_source(section.source)


def _require_folder(name: str) -> None:
    if not Path(name).expanduser().exists():
        raise ModelError(
            f"a model was looked for in {name}",
            "there is no such file or folder",
            "Give the folder of a student that a run saved.",
        )


def _sections(value: Any) -> Iterator[Section]:
    """Every section below one, itself included."""
    if isinstance(value, Section):
        yield value
        for name in type(value).model_fields:
            yield from _sections(getattr(value, name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from _sections(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _sections(each)
