"""A method's name -> its class: there is no list to keep, the file's name is the method's."""

import dataclasses
import importlib
import pkgutil
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import preceptor.objectives
from preceptor.errors import RecipeError, nearest
from preceptor.objectives.base import Objective, Sum, Weighted

_SHARED = frozenset({"base", "schedules"})


@cache
def method_names() -> tuple[str, ...]:
    """Every method of the package: the files in `preceptor/objectives`."""
    files = pkgutil.iter_modules(preceptor.objectives.__path__)
    return tuple(sorted(f.name for f in files if f.name not in _SHARED and f.name[0] != "_"))


@cache
def method(name: str) -> type[Objective[Any]]:
    """The class behind a recipe's key: a file's name, or `package.module:Class`.

    Modules outside the package may lie in the current directory.

    Raises:
        RecipeError: where there is no such method, or what is there is none.

    >>> method("kd").__name__
    'KD'
    """
    if ":" in name:
        return _outside(name)
    if name not in method_names():
        raise RecipeError(
            f"method {name!r}",
            f"unknown method; nearest: {nearest(name, method_names())}",
            "Use a name from docs/methods.md, or package.module:Class for one of your own.",
        )
    module = importlib.import_module(f"preceptor.objectives.{name}")
    return _method_in(module, name)


def key_of(objective: Objective[Any]) -> str:
    """The recipe's key for a method: the inverse of `method`."""
    kind = type(objective)
    package, _, file = kind.__module__.rpartition(".")
    return file if package == "preceptor.objectives" else f"{kind.__module__}:{kind.__qualname__}"


def _method_in(module: Any, name: str) -> type[Objective[Any]]:
    own = [found for found in vars(module).values() if _is_method(found, module.__name__)]
    # A file that holds a second dataclass for its own use names the method like itself.
    named = [found for found in own if found.__name__.lower() == name.replace("_", "")] or own
    assert len(named) == 1, f"{module.__name__} must hold one method, and holds {named}"
    return named[0]


def _is_method(found: Any, home: str) -> bool:
    return (
        isinstance(found, type)
        and issubclass(found, Objective)
        and dataclasses.is_dataclass(found)
        and found not in (Sum, Weighted)
        and found.__module__ == home
    )


def _outside(name: str) -> type[Objective[Any]]:
    path, _, wanted = name.partition(":")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", name):
        raise RecipeError(
            f"method {name!r}", "it is not an import path", "Write package.module:Class."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(path)
    except Exception as error:  # the user's module may raise anything while it is imported
        raise RecipeError(
            f"method {name!r}",
            f"the module {path!r} cannot be imported ({type(error).__name__}: {error})",
            "Install it, or run from the folder it lies in.",
        ) from error
    found = getattr(module, wanted, None)
    if found is None:
        near = nearest(wanted, (n for n in vars(module) if not n.startswith("_")))
        raise RecipeError(
            f"method {name!r}", f"{path} has no {wanted!r}; nearest: {near}", "Correct the class."
        )
    if not _is_method(found, getattr(found, "__module__", "")):
        raise RecipeError(
            f"method {name!r}",
            f"{wanted} is not a frozen dataclass that derives from preceptor.Objective",
            "See docs/all-of-preceptor.md for what a method is.",
        )
    return found
