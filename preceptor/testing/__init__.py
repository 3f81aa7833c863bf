"""The contract that every objective keeps, for ours and for yours.

    from preceptor.testing import check_objective
    check_objective(MyMethod())          # raises AssertionError with a sentence

or, one test a promise: `@pytest.mark.parametrize("check", OBJECTIVE_CHECKS)`. A method is tried
on small random tensors that hold what its `needs()` names and nothing else.
"""

from typing import Any

from preceptor.objectives._methods import method_names, packaged_method
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
    kinds = {name: packaged_method(name) for name in method_names()}
    return {name: kind(**getattr(kind, "example", {})) for name, kind in kinds.items()}
