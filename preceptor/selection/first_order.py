"""Backward passes of Functions that are not themselves differentiated."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Torch's `once_differentiable`, without its cost where nobody follows the backward pass.

    It switches gradients off, in ten calls of Python, which in most passes are off.
    """
    careful = once_differentiable(backward)

    @wraps(backward)
    def found(ctx: Any, *outer: Any) -> Any:
        return (careful if torch.is_grad_enabled() else backward)(ctx, *outer)

    return found
