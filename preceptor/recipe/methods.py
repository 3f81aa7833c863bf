"""A method's name -> its class: there is no list to keep, the file's name is the method's."""

import importlib
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from preceptor.errors import RecipeError, nearest
from preceptor.objectives._methods import is_method, method_names, packaged_method
from preceptor.objectives.base import Objective


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
    return packaged_method(name)


def key_of(objective: Objective[Any]) -> str:
    """The recipe's key for a method: the inverse of `method`."""
    kind = type(objective)
    package, _, file = kind.__module__.rpartition(".")
    return file if package == "preceptor.objectives" else f"{kind.__module__}:{kind.__qualname__}"


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
    if not is_method(found, inspect.getmodule(found) or module):
        raise RecipeError(
            f"method {name!r}",
            f"{wanted} is not a frozen dataclass that derives from preceptor.Objective",
            "See docs/all-of-preceptor.md for what a method is.",
        )
    return found
