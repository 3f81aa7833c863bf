"""What every section of a recipe is: frozen, typed, closed; and how plain data becomes one.

Data from a file is read with JSON's strictness: a list may become a tuple, but no text becomes a
number and no truth value a count.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from preceptor.errors import RecipeError
from preceptor.recipe.problems import Invalid, Problem, problems, recipe_error

T = TypeVar("T")


if TYPE_CHECKING:
    _Answering = BaseModel  # so that editors see each section's fields as its arguments
else:

    class _Worded(type(BaseModel)):
        def __call__(cls, *args, **values):
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise recipe_error(problems(error, cls), cls.__name__) from None

    class _Answering(BaseModel, metaclass=_Worded):
        """A model that, built in Python, answers a mistake with `RecipeError`."""


class Section(_Answering):
    """A frozen part of a recipe that knows no other keys than its own."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        serialize_by_alias=True,
        validate_by_name=True,
        validate_by_alias=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )


@cache
def adapter(kind: Any) -> Any:
    """What reads and writes values of `kind`; made once, for that takes longer than reading."""
    return TypeAdapter(kind)


def parsed(kind: type[T] | Any, data: Any) -> T | Any:
    """Plain data (mappings, lists, numbers, texts) as a value of `kind`.

    Raises:
        Invalid: with every mistake, each with its path within `data`.
    """
    try:
        return adapter(kind).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise Invalid(problems(error, kind)) from None
    except RecipeError as error:
        raise Invalid((Problem((), error.seen, error.why, error.do),)) from None


def which(*keys: str) -> Callable[[Any], str | None]:
    """Says which of several shapes a mapping has: the one whose key it names."""

    def tag(value: Any) -> str | None:
        named = [key for key in keys if _names(value, key)]
        return f"<{named[0]}>" if len(named) == 1 else None

    return tag


def _names(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value
    return isinstance(value, BaseModel) and key in type(value).model_fields
