"""The contract that every objective keeps, for ours and for yours.

    from preceptor.testing import check_objective
    check_objective(MyMethod())          # raises AssertionError with a sentence

or, one test a promise: `@pytest.mark.parametrize("check", OBJECTIVE_CHECKS)`. A method is tried
on small random tensors that hold what its `needs()` names and nothing else.
"""

import dataclasses
import importlib
import pkgutil
from typing import Any

import preceptor.objectives
from preceptor.objectives.base import Objective
from preceptor.testing.objectives import OBJECTIVE_CHECKS, Check
from preceptor.testing.world import Taps, World, example_world

__all__ = [
    "OBJECTIVE_CHECKS",
    "Check",
    "Taps",
    "World",
    "check_objective",
    "example_world",
    "objective_cases",
]

_SHARED = ("base", "schedules", "adapters")


def check_objective(
    objective: Objective[Any], *, classes: int = 5, taps: Taps | None = None, seed: int = 0
) -> None:
    """Raise AssertionError, with a sentence, where an objective breaks the contract.

    Args:
        objective: the method, a sum of methods, or one with weights; "auto" layers are settled to
            small made-up ones.
        classes: how many.
        taps: shapes of an example at named taps, where the method names its layers.
        seed: of the random tensors.
    """
    for check in OBJECTIVE_CHECKS:
        check(objective, classes=classes, taps=taps, seed=seed)


def objective_cases() -> dict[str, Objective[Any]]:
    """Every method of the package by its file's name.

    Each is made with its defaults; a method with fields that have none says in a ClassVar
    `example` what to make it with.
    """
    cases: dict[str, Objective[Any]] = {}
    for file in pkgutil.iter_modules(preceptor.objectives.__path__):
        if file.name not in _SHARED and not file.name.startswith("_"):
            kind = _method_of(importlib.import_module(f"preceptor.objectives.{file.name}"))
            cases[file.name] = kind(**getattr(kind, "example", {}))
    return cases


def _method_of(module: Any) -> type[Objective[Any]]:
    own = [
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, Objective)
        and found.__module__ == module.__name__
    ]
    assert len(own) == 1, f"{module.__name__} defines {len(own)} objectives; a method file has one"
    kind = own[0]
    assert dataclasses.is_dataclass(kind), f"{kind.__name__} is not a dataclass"
    assert getattr(kind, "__dataclass_params__").frozen, f"{kind.__name__} is not frozen"  # noqa: B009
    assert getattr(kind, "__final__", False), f"{kind.__name__} is not marked @final"
    return kind
