"""A loss of one layer that leaves nothing behind but its gradient.

Written plainly, a distance between two layers keeps both, and what was computed between them, until
the backward pass: of attention maps, several copies of [B, h, T, T] for every layer. Here its
gradient is taken at once, so that the temporaries of one layer are gone before the next one is
scored, and the teacher's layer is free.

Dimension key: b examples.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Distance = Callable[[Tensor], Tensor]
"""[B, ...] to one number an example, each of which reads its own example alone."""


def streamed(distance: Distance, student: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """`distance(student)`, its gradient taken in the forward pass and scaled in the backward one.

    Only the gradient is kept, as large as `student` and in its dtype. What else `distance` reads
    gets no gradient.
    """
    values = _Streamed.apply(student, distance, torch.is_grad_enabled())
    assert isinstance(values, Tensor)
    return values


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, distance: Distance, graded: bool) -> Tensor:
        if not (graded and ctx.needs_input_grad[0]):
            return distance(student)
        leaf = student.detach().requires_grad_()
        with torch.enable_grad():
            values = distance(leaf)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        ctx.save_for_backward(gradient)
        return values.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        each = outer[0].reshape(-1, *[1] * (gradient.ndim - 1)).to(gradient.dtype)
        return gradient * each, None, None
