"""Types of hyper-parameters that carry their range, and the check of a dataclass against them.

A range is written once, in the field's type. It is read here when the object is made in Python,
by the recipe's schema when it is made from YAML, and by the generated page of methods.
"""

import dataclasses
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from preceptor.errors import RecipeError

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
OpenFraction = Annotated[float, Gt(0), Lt(1)]
Count = Annotated[int, Ge(1)]
Index = Annotated[int, Ge(0)]

_HOLDS = {
    Gt: lambda value, bound: value > bound.gt,
    Ge: lambda value, bound: value >= bound.ge,
    Lt: lambda value, bound: value < bound.lt,
    Le: lambda value, bound: value <= bound.le,
}


def bounds(annotation: Any) -> tuple[Any, ...]:
    """The range marks in a type, empty where it has none."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(mark for kind in get_args(annotation) for mark in bounds(kind))
    if get_origin(annotation) is not Annotated:
        return ()
    return tuple(mark for mark in get_args(annotation)[1:] if type(mark) in _HOLDS)


def range_words(annotation: Any) -> str:
    """A type's range in words.

    >>> range_words(Fraction)
    '>= 0 and <= 1'
    """
    signs = {Gt: ("gt", ">"), Ge: ("ge", ">="), Lt: ("lt", "<"), Le: ("le", "<=")}
    words = [f"{signs[type(m)][1]} {getattr(m, signs[type(m)][0]):g}" for m in bounds(annotation)]
    return " and ".join(words)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def check_ranges(value: Any) -> None:
    """Raise `RecipeError` where a number in a dataclass lies outside its field's range."""
    hints = _hints(type(value))
    for field in dataclasses.fields(value):
        given = getattr(value, field.name)
        if isinstance(given, bool) or not isinstance(given, int | float):
            continue
        if any(not _HOLDS[type(mark)](given, mark) for mark in bounds(hints[field.name])):
            raise RecipeError(
                f"{type(value).__name__}({field.name}={given})",
                f"{field.name} must be {range_words(hints[field.name])}",
                "Choose a value in that range.",
            )
