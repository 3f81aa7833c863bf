"""The tests' own check of shapes and types: beartype, taking an int where a float is asked for."""

from collections.abc import Callable
from typing import Any, get_args, get_origin

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

_checked: Callable[[Any], Any] = beartype(conf=BeartypeConf(is_pep484_tower=True))

_known: dict[Any, Any] = {}
"""Checks of signatures that were made before."""


def checked(function: Any) -> Any:
    """The function with its arguments and its result checked.

    jaxtyping hands over empty functions that have a signature and nothing else. That of a function
    which is defined inside another comes again at every call of the other: its check is made once.
    """
    code = getattr(function, "__code__", None)
    if code is None or code.co_filename != "<string>" or _has_values(function):
        return _checked(function)
    signature = tuple((name, _told(hint)) for name, hint in function.__annotations__.items())
    key = (function.__module__, function.__qualname__, code, signature)
    try:
        if key not in _known:
            _known[key] = _checked(function)
    except TypeError:  # a hint without a hash
        return _checked(function)
    return _known[key]


def _has_values(function: Any) -> bool:
    """Whether it is more than its signature: beartype looks at defaults too."""
    return bool(function.__defaults__ or function.__kwdefaults__ or function.__closure__)


def _told(hint: Any) -> Any:
    """What a hint says: jaxtyping makes another class each time that the same shape is written."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return hint.array_type, hint.dtypes, hint.dim_str
    if isinstance(hint, list):  # the arguments of a callable
        return tuple(_told(each) for each in hint)
    parts = get_args(hint)
    return (get_origin(hint), *(_told(each) for each in parts)) if parts else (type(hint), hint)
