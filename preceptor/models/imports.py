"""Objects by import path: "package.module:name"."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from preceptor.errors import ModelError, nearest


def made(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The module that the class or function at an import path returns for these arguments.

    Modules beside the recipe are found: the current directory is searched first.
    """
    with _here():
        factory = imported(path)
        try:
            inspect.signature(factory).bind(**arguments)
        except TypeError as error:
            raise ModelError(
                f"{path!r} was called with {', '.join(arguments) or 'no arguments'}",
                str(error),
                f"It takes {inspect.signature(factory)}.",
            ) from None
        module = factory(**arguments)
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{path!r} returned a {type(module).__name__}",
            "a factory returns a torch module",
            "Return an `nn.Module` that maps images to logits.",
        )
    return module


def imported(path: str) -> Callable[..., Any]:
    """The class or function at an import path."""
    where, colon, name = path.partition(":")
    if not (where and colon and name):
        raise ModelError(
            f"the import path {path!r} was given",
            "it has no module and name with a colon between",
            "Write `package.module:name`.",
        )
    with _here():
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{path!r} was imported",
                f"there is no module {error.name!r} beside the recipe or among the installed ones",
                "Run in the folder that holds it, or install it.",
            ) from error
        except (ImportError, SyntaxError) as error:
            raise ModelError(f"{path!r} was imported", str(error), "Mend that file.") from error
    if not hasattr(module, name):
        raise ModelError(
            f"{path!r} was imported",
            f"{where} has no {name!r}",
            f"Nearest: {nearest(name, [word for word in vars(module) if word[0] != '_'])}.",
        )
    return getattr(module, name)


@contextmanager
def _here() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    # A file written since the last import is seen.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)
