"""Which methods there are: a file is a method, and its name is the method's."""

import dataclasses
import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import Any

from preceptor.objectives.base import Objective, Sum, Weighted

_SHARED = frozenset({"base", "reduction", "schedules"})


@cache
def method_names() -> tuple[str, ...]:
    """Every method of the package: the files of this folder, but for what they share."""
    package = importlib.import_module("preceptor.objectives")
    files = pkgutil.iter_modules(package.__path__)
    return tuple(sorted(f.name for f in files if f.name not in _SHARED and f.name[0] != "_"))


def packaged_method(name: str) -> type[Objective[Any]]:
    """The class of one of `method_names`."""
    module = importlib.import_module(f"preceptor.objectives.{name}")
    own = [found for found in vars(module).values() if is_method(found, module)]
    assert len(own) == 1, f"{name}.py defines {len(own)} objectives; a method file has one"
    kind = own[0]
    assert getattr(kind, "__dataclass_params__").frozen, f"{kind.__name__} is not frozen"  # noqa: B009
    assert getattr(kind, "__final__", False), f"{kind.__name__} is not marked @final"
    return kind


def is_method(found: Any, home: ModuleType) -> bool:
    """Whether something is a method that this module defines."""
    return (
        isinstance(found, type)
        and issubclass(found, Objective)
        and dataclasses.is_dataclass(found)
        and found not in (Sum, Weighted)
        and found.__module__ == home.__name__
    )
