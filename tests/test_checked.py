"""Shapes and types are checked in every test, of functions inside functions too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float, jaxtyped
from torch import Tensor

from tests import checked


def made(kind: Any, rank: str = "rows classes") -> Callable[..., Any]:
    @jaxtyped(typechecker=checked)
    def first(
        values: Float[Tensor, rank],
        count: kind,  # pyright: ignore[reportInvalidTypeForm]
    ) -> Float[Tensor, "rows"]:
        return values[:, 0] if count else values

    return first


def test_a_function_that_is_made_again_is_checked_again() -> None:
    values = torch.zeros(2, 3)
    for _ in range(2):
        assert made(int)(values, 1).shape == (2,)
        with pytest.raises(TypeError, match="parameter 'count'"):
            made(int)(values, "1")
        with pytest.raises(TypeError, match="parameter 'values'"):
            made(int)(values[0], 1)
        with pytest.raises(TypeError, match="the return value"):
            made(int)(values, 0)


def test_other_hints_are_other_checks() -> None:
    values = torch.zeros(2, 3)
    assert made(str)(values, "1").shape == (2,)
    assert made(int, "rows classes")(values, 1).shape == (2,)
    with pytest.raises(TypeError, match="parameter 'values'"):
        made(int, "rows classes 1")(values, 1)
    assert made(list[int])(values, [1]).shape == (2,)
    with pytest.raises(TypeError, match="parameter 'count'"):
        made(list[str])(values, [1])
