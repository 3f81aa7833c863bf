"""Backward passes that are not themselves differentiated."""

from typing import Any

import pytest
import torch
from torch import Tensor

from preceptor.selection.first_order import first_order


class _Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return 3 * x**2 * outer[0]


def cubed(x: Tensor) -> Tensor:
    found = _Cube.apply(x)
    assert isinstance(found, Tensor)
    return found.sum()


def test_the_gradient_is_what_the_backward_pass_gives() -> None:
    x = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    cubed(x).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 12.0, 0.75]


def test_a_second_derivative_is_refused_and_is_not_zero() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    (slope,) = torch.autograd.grad(cubed(x).square(), x, create_graph=True)
    assert slope.tolist() == [-42.0, -168.0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
