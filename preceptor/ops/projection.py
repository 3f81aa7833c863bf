"""Hidden states and a head, scored a slice of positions at a time: no [N, V] tensor exists.

Gradients with respect to hidden states, weight and bias are taken in the forward pass, slice by
slice (four matrix products with the teacher's), so that a slice's logits are gone before the next
one is made. The backward pass only scales what is stored.

A slice is as long as the matrix products like it; what is computed between them goes through it in
blocks of few rows, which stay in the processor's cache and leave small temporaries.

Dimension key: n positions, c of them in a slice, r in a block, v classes, d width.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.distributions import Head, at_least_float32

BUDGET = 1 << 24
"""Entries c v of one slice, where the caller says nothing: with its teacher's 128 MiB."""

_BLOCK = 1 << 18
"""Entries r v of one block: a tensor of them is 1 MiB."""

_ON_GPU = {"slice": 8, "block": 64}
"""How many times as much a GPU takes at once."""

_PART = 8192
"""Classes whose gradient is summed up at once where products are narrower than sums."""


@runtime_checkable
class Scorer(Protocol):
    """What a slice's logits are worth; weights, masks and counts are inside.

    `begin` is called once a slice, in order, then one of the others for each block of it.
    """

    def begin(self, rows: slice) -> None:
        """These positions come next: time for what is better done for a whole slice."""
        ...

    def value(self, logits: Float[Tensor, "r v"], rows: slice) -> Float[Tensor, ""]:
        """A block's share of the loss, differentiable in `logits` (float32 or better)."""
        ...

    def gradient_(self, logits: Float[Tensor, "r v"], rows: slice) -> Float[Tensor, ""] | None:
        """The same, its gradient written over `logits`; None, and nothing written, where the
        gradient has no closed form here."""
        ...


def slice_length(classes: int, device: torch.device | None = None) -> int:
    """Positions in a slice, where the caller says nothing."""
    return max(16, min(4096, BUDGET * _times("slice", device) // classes))


def block_length(classes: int, device: torch.device | None = None) -> int:
    """Positions in a block."""
    return max(1, _BLOCK * _times("block", device) // classes)


def _times(what: str, device: torch.device | None) -> int:
    return _ON_GPU[what] if device is not None and device.type == "cuda" else 1


def projected(
    hidden: Float[Tensor, "n d"], head: Head, scorer: Scorer, *, length: int = 0
) -> Float[Tensor, ""]:
    """The sum over slices of what `scorer` makes of each slice's logits.

    Products are taken in the weight's dtype, or in bfloat16 under its autocast. (float16's is not
    followed: a gradient that is taken before the loss is scaled would vanish in it.)

    Args:
        hidden: [n, d], with their graph.
        head: the model's own; its weight may be a parameter or computed from some.
        scorer: sees each slice once, in order.
        length: positions in a slice; 0 for a length that suits the number of classes.

    Returns:
        A scalar in float32 or better, connected to hidden states, weight and bias also where n
        is 0. Its backward pass can be run once.
    """
    total = _Projected.apply(
        hidden,
        head.weight,
        head.bias,
        (head.scale, head.cap),
        scorer,
        length or slice_length(len(head.weight), hidden.device),
        torch.is_grad_enabled(),
    )
    assert isinstance(total, Tensor)
    return total


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        form: tuple[float, float],
        scorer: Scorer,
        length: int,
        graded: bool,
    ) -> Tensor:
        total = at_least_float32(hidden.new_zeros(()))
        wants = [graded and needed for needed in ctx.needs_input_grad[:3]]
        grads = _Gradients(*map(_room, (hidden, weight, bias), wants))
        dtype = _product_dtype(weight)
        head = Head(weight.to(dtype), None if bias is None else bias.to(dtype), *form)
        with torch.autocast(hidden.device.type, enabled=False):
            # An empty set is one empty slice, so that every process has every term.
            for start in range(0, max(1, len(hidden)), length):
                rows = slice(start, min(start + length, len(hidden)))
                scorer.begin(rows)
                total = total + _scored(hidden, head, scorer, rows, grads, any(wants))
        ctx.save_for_backward(*grads)
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        scaled = [
            None if grad is None else grad.mul_(outer[0]).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None, None)


class _Gradients(NamedTuple):
    """Room for what is asked for, in float32 or better."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def add(self, rows: slice, own: Tensor, slope: Tensor, weight: Tensor) -> None:
        """A slice's part, from the gradient `slope` of its product `own @ weight.T`."""
        if self.hidden is not None:
            self.hidden[rows] = slope @ weight
        if self.weight is None:
            return
        if self.weight.dtype == slope.dtype:
            self.weight.addmm_(slope.T, own)
            return
        for start in range(0, len(weight), _PART):
            part = slice(start, start + _PART)
            if own.is_cuda:
                self.weight[part] += slope[:, part].T @ own
            else:
                # Many short slices, each rounded to bfloat16, would add up to a coarser sum.
                wide = self.weight.dtype
                self.weight[part].addmm_(slope[:, part].to(wide).T, own.to(wide))


def _room(tensor: Tensor | None, wanted: bool) -> Tensor | None:
    if tensor is None or not wanted:
        return None
    return torch.zeros_like(tensor, dtype=at_least_float32(tensor[:0]).dtype)


def _product_dtype(weight: Tensor) -> torch.dtype:
    kind = weight.device.type
    if weight.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        asked = torch.get_autocast_dtype(kind)
        return asked if asked == torch.bfloat16 else weight.dtype
    return weight.dtype


def _scored(
    hidden: Tensor,
    head: Head,
    scorer: Scorer,
    rows: slice,
    grads: _Gradients,
    graded: bool,
) -> Tensor:
    """One slice: its value, its gradients added to `grads`."""
    own = hidden[rows].to(head.weight.dtype)
    product = head.product(own)
    step = block_length(len(head.weight), hidden.device)
    values: list[Tensor] = []
    for start in range(0, max(1, len(own)), step):
        block = product[start : start + step]
        where = slice(rows.start + start, rows.start + start + len(block))
        if graded:
            values.append(_differentiated_(block, head, scorer, where, grads.bias))
        else:
            values.append(scorer.value(head.finished(block), where))
    if graded:
        grads.add(rows, own, product, head.weight)
    return torch.stack(values).sum().detach()


def _differentiated_(
    product: Tensor, head: Head, scorer: Scorer, rows: slice, of_bias: Tensor | None
) -> Tensor:
    """One block: its value; its gradient is written over the product that it was made from."""
    logits = head.finished(product)
    # The capped logits' slope is read from their values, which the gradient may overwrite.
    slope = 1 - (logits / head.cap).square_() if head.cap else None
    value, grad = scorer.gradient_(logits, rows), logits
    if value is None:
        value, grad = by_autograd(lambda leaf: scorer.value(leaf, rows), logits)
    if slope is not None:
        grad.mul_(slope)
    if head.scale != 1.0:
        grad.mul_(head.scale)
    if of_bias is not None:
        of_bias += grad.sum(dim=0)
    if grad is not product:
        product.copy_(grad)
    return value.detach()


def by_autograd(
    value: Callable[[Tensor], Tensor], logits: Float[Tensor, "r v"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "r v"]]:
    """A function's value at `logits`, and its gradient there."""
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        found = value(leaf)
    if not found.requires_grad:
        return found, torch.zeros_like(logits)
    (grad,) = torch.autograd.grad(found, leaf, materialize_grads=True)
    return found.detach(), grad
