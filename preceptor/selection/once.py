"""What a function gave once for all examples, and how the slopes of each come back from it.

Dimension key: b examples, *s axes of what was made, *m of what is read of it.
"""

from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.selection.first_order import first_order
from preceptor.selection.shared import summed


@final
class Once:
    """Numbers that were made once, and what copies of them, one an example, are made of.

    Functions are computed one after another of what a few roots are copies of; slopes of the last
    one come back through all of them at once.

    Args:
        numbers: [*s], as autograd knows them to be made of the roots.
        roots: by its id, each leaf [*r], and the copies [b, *r] that its slopes go to.
        every: copies of the numbers where there are some [b, *s].
    """

    def __init__(
        self, numbers: Tensor, roots: dict[int, tuple[Tensor, Tensor]], every: Tensor | None = None
    ) -> None:
        self.numbers, self.roots, self._every = numbers, roots, every
        self._is_continued = False

    @classmethod
    def of(cls, every: Float[Tensor, "b *s"]) -> "Once":
        """What these copies are copies of."""
        numbers = every[0].detach().requires_grad_()
        return cls(numbers, {id(numbers): (numbers, every)}, every)

    @property
    def every(self) -> Float[Tensor, "b *s"]:
        """One copy an example."""
        if self._every is None:
            ones, copies = zip(*self.roots.values(), strict=True)
            found = _Back.apply([self.numbers], ones, *copies)
            assert isinstance(found, Tensor)
            self._every = found
        return self._every

    def continued(self) -> "Once":
        """What a function is to be computed of.

        What several functions are computed of is a root, or slopes of each would go all the way
        back apart.
        """
        is_root = self.numbers.grad_fn is None
        is_second, self._is_continued = self._is_continued, True
        return Once.of(self.every) if is_second and not is_root else self


class _Back(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, found: Sequence[Tensor], ones: Sequence[Tensor], *every: Tensor
    ) -> Tensor:
        ctx.found, ctx.ones = found[0], ones
        return ctx.found.detach().expand(len(every[0]), *ctx.found.shape)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        slopes, found = outer[0].to(ctx.found.dtype), ctx.found
        # What was made on the way may have been used for something else as well.
        kept = {"retain_graph": True, "allow_unused": True}
        back = torch.autograd.grad(found, ctx.ones, slopes, is_grads_batched=True, **kept)
        return None, None, *back


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
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), own = outer, ctx.shape[1:]
        places = torch.arange(own.numel(), device=slope.device).view(own)[ctx.index]
        back = summed(slope.flatten(1), places.flatten(), own.numel())
        return back.view(ctx.shape), None
