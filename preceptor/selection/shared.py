"""What is made of a parameter and of numbers alone, and so is the same for every example.

A table of relative positions is read once for all: `table[index].permute(2, 0, 1)`, and added to
the scores of each. Until then it stays a tracked value with steps behind it, made once. Where it
meets a tensor of examples, each example has a copy that costs no memory; its slopes are brought
back to the parameter by what the steps make of the numbers' own places, or, where a step does more
than put numbers elsewhere, by autograd.

Dimension key: b examples, *s what the steps made, m of it flat, n of the parameter's numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.selection.entry import Entry
from preceptor.selection.experts import TURN
from preceptor.selection.first_order import first_order
from preceptor.selection.small import copies
from preceptor.selection.strange import refusal
from preceptor.selection.tracked import Step, Tracked

CHOICES = (torch.where, Tensor.masked_fill)
"""Functions that may put constants in the place of numbers."""
_TURNS = 4
"""Sums that neighbours go to in turn."""


@final
@dataclass(frozen=True)
class Shared(Step):
    """A function that no example plays a part in, whose axes are its own.

    Attributes:
        moves: whether it does no more than put numbers elsewhere, or constants in their place.
    """

    moves: bool = True


def is_shared(value: Tracked) -> bool:
    """Whether steps gave it axes of its own."""
    return any(isinstance(step, Shared) for step in value.steps)


def each_own(value: Tracked) -> Float[Tensor, "b *s"]:
    """The value, one copy an example, each with its own gradient.

    A parameter's own are made once: a recurrence uses it at each of its times. Tables are large;
    what each use of these adds is not kept until all are done.

    Raises:
        Strange: one example alone needs none.
    """
    entry = value.entry
    if not is_shared(value):
        # In a module that is run one example at a time, each has its own.
        is_kept = torch.is_grad_enabled() and entry.ledger.examples > 1
        if is_kept and value.each is not None:
            return value.each
        own = made(value.steps, copies(entry))
        value.each = own if is_kept else value.each
        return own
    return each_made(value)


def each_made(value: Tracked) -> Float[Tensor, "b *s"]:
    """The same, whose gradient is sketched as that of a matrix where the parameter is one.

    Raises:
        Strange: one example alone needs none.
    """
    entry = value.entry
    if entry.ledger.examples == 1:
        raise refusal(entry, "where autograd's own gradient is one example's")
    found = _Each.apply(entry.ledger.anchor, [value.plain()], entry, value.steps)
    assert isinstance(found, Tensor)
    return found


class _Each(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        held: Sequence[Tensor],
        entry: Entry,
        steps: Sequence[Step],
    ) -> Tensor:
        ctx.entry, ctx.steps = entry, steps
        (value,) = held
        return value.expand(entry.ledger.examples, *value.shape)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        slopes = outer[0].reshape(len(outer[0]), -1)
        _add(ctx.entry, ctx.steps, slopes.to(ctx.entry.ledger.dtype))
        return None, None, None, None


def _add(entry: Entry, steps: Sequence[Step], slopes: Float[Tensor, "b m"]) -> None:
    """Add the gradient of each example, whose `slopes` are of what the steps made."""
    if not steps:
        _add_whole(entry, slopes)
        return
    moving = len(steps)
    while moving and moves(steps[moving - 1]):
        moving -= 1
    before = made(steps[:moving], entry.parameter)
    places = _places(steps[moving:], before.shape, before.device)
    if not moving and entry.vocabulary and len(places) < before.numel():
        _add_rows(entry, places, slopes)
        return
    gradient = summed(slopes, places, 1 + before.numel())[:, 1:]
    if moving:
        gradient = _before(steps[:moving], entry.parameter, gradient)
    _add_whole(entry, gradient)


def _add_whole(entry: Entry, gradient: Float[Tensor, "b n"]) -> None:
    if entry.parameter.dim() == 2:
        entry.add_matrices([gradient.unflatten(1, entry.parameter.shape)])
    else:
        entry.add_flat(gradient)


def summed(
    slopes: Float[Tensor, "b m"], index: Int[Tensor, " m"], count: int
) -> Float[Tensor, "b count"]:
    """The sums of slopes of one index.

    Neighbours often have the same one: they go to other sums, or would wait for the last.
    """
    turns = torch.arange(len(index), device=index.device) % _TURNS
    found = slopes.new_zeros(len(slopes), count * _TURNS)
    found.scatter_add_(1, (index + count * turns).expand_as(slopes), slopes)
    return found.unflatten(1, (_TURNS, count)).sum(dim=1)


def moves(step: Step) -> bool:
    """Whether the gradient of what it gives is that of what it is given, elsewhere."""
    return step.keeps or step.func is TURN or (isinstance(step, Shared) and step.moves)


def made(steps: Sequence[Step], x: Tensor) -> Tensor:
    """What steps make of x."""
    for step in steps:
        x = step(x)
    return x


def _places(steps: Sequence[Step], shape: Sequence[int], device: torch.device) -> Int[Tensor, " m"]:
    """Which of the numbers before these steps stands at each place behind them, counted from 1.

    0 is a constant: what is the same whatever the numbers are.
    """
    # Numbers, for not all functions take integers; of each kind those that are exact.
    count = torch.Size(shape).numel()
    chooses = any(step.func in CHOICES or isinstance(step.func, partial) for step in steps)
    kind = torch.float64 if chooses or count >= 1 << 24 else torch.float32
    found = _moved_by(steps, torch.arange(1, count + 1, device=device, dtype=kind).view(shape))
    if chooses:
        without = _moved_by(steps, torch.zeros(shape, device=device, dtype=kind))
        found = torch.where(found == without, 0, found)
    return found.flatten().long()


def _moved_by(steps: Sequence[Step], x: Tensor) -> Tensor:
    for step in steps:
        x = x.contiguous() if step.keeps else step(x)
    return x


def _add_rows(entry: Entry, places: Int[Tensor, " m"], slopes: Float[Tensor, "b m"]) -> None:
    """The same of a table with more rows than are read."""
    width = entry.parameter.shape[1]
    rows, which = (places - 1).div(width, rounding_mode="floor").unique(return_inverse=True)
    index = which * width + (places - 1) % width
    found = summed(slopes, index, len(rows) * width)
    ids = rows.expand(len(slopes), -1)
    right = entry.columns.raw(found.view(len(slopes), -1, width))
    entry.add_rows(ids.clamp_min(0), right, ids >= 0)


def _before(
    steps: Sequence[Step], parameter: Tensor, slopes: Float[Tensor, "b m"]
) -> Float[Tensor, "b n"]:
    """The parameter's gradient of each example, from that of what steps made of it."""
    with torch.enable_grad():
        given = parameter.detach().requires_grad_()
        after = made(steps, given)
    slopes = slopes.reshape(-1, *after.shape).to(after.dtype)
    (found,) = torch.autograd.grad(after, given, slopes, is_grads_batched=True)
    return found.flatten(1)
