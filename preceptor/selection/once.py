"""What a function gave once for all examples, and how the slopes of each come back from it.

Dimension key: b examples, *s axes of what was made, *m of what is read of it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.selection.shared import summed


def back_from(
    found: Sequence[Tensor], given: Sequence[Tensor], every: Sequence[Float[Tensor, "b ..."]]
) -> Sequence[Tensor]:
    """One copy an example of each of `found`, which autograd knows to be made of `given`.

    Args:
        found: what a function gave.
        given: what it was given.
        every: one copy an example of each of these; where the slopes go.
    """
    back = _Back.apply(found, given, len(every[0]), *every)
    assert isinstance(back, tuple)
    return back


class _Back(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, found: Sequence[Tensor], given: Sequence[Tensor], examples: int, *_: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.found, ctx.given = found, given
        return tuple(x.detach().expand(examples, *x.shape) for x in found)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        met = [i for i, slope in enumerate(outer) if slope is not None]
        found = [ctx.found[i] for i in met]
        slopes = [outer[i].to(ctx.found[i].dtype) for i in met]
        back = torch.autograd.grad(
            found, ctx.given, slopes, is_grads_batched=True, allow_unused=True
        )
        return None, None, None, *back


def picked(every: Float[Tensor, "b *s"], index: Any) -> Float[Tensor, "b *m"]:
    """One copy an example of what stands at places that a tensor tells.

    Autograd would bring the slopes of one example after another back to these.
    """
    found = _Picked.apply(every, index)
    assert isinstance(found, Tensor)
    return found


class _Picked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, every: Tensor, index: Any) -> Tensor:
        ctx.shape, ctx.index = every.shape, index
        found = every[0][index]
        return found.expand(len(every), *found.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), own = outer, ctx.shape[1:]
        places = torch.arange(own.numel(), device=slope.device).view(own)[ctx.index]
        back = summed(slope.flatten(1), places.flatten(), own.numel())
        return back.view(ctx.shape), None
