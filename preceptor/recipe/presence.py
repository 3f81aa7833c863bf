"""Whether what a recipe names is there: files, folders, models of the zoo. Nothing is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preceptor.data.loading import check_source
from preceptor.data.reading import files_of
from preceptor.errors import ModelError
from preceptor.models import zoo
from preceptor.models.encoders import located
from preceptor.recipe.data import SentenceData, Splits, TextData
from preceptor.recipe.models import EncoderModel, FolderModel, ZooModel
from preceptor.recipe.ranking import WrittenTexts
from preceptor.recipe.schema import Data
from preceptor.recipe.section import Section
from preceptor.recipe.starts import FromFolder, StartFields
from preceptor.recipe.teachers import LiveTeacher
from preceptor.recipe.texts import GENERATED


def require_present(recipe: Section) -> None:
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
        elif isinstance(section, StartFields) and section.teacher is not None:
            _require_folder(section.teacher)
        elif isinstance(section, WrittenTexts):
            files_of(section.source)
        elif isinstance(section, Data | TextData | SentenceData):
            check = check_source if isinstance(section, Data) else _check_rows
            both = section.source
            named = (both.train, both.test) if isinstance(both, Splits) else (both,)
            for source in named:
                check(source)
            told = section.groups if isinstance(section, Data) else None
            told = section.graded if isinstance(section, SentenceData) else told
            if told is not None:
                files_of(told)


def _check_rows(source: str) -> None:
    """Raise where rows of text are in no file or folder, and are no name on the hub either."""
    if source not in GENERATED:
        files_of(source)


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
