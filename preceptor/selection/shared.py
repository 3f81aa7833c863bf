"""What is made of a parameter and of numbers alone, and so is the same for every example.

A table of relative positions is read once for all: `table[index].permute(2, 0, 1)`, and added to
the scores of each. Until then it stays a tracked value with steps behind it, made once. Where it
meets a tensor of examples, each example has a copy that costs no memory; its slopes are brought
back to the parameter by what the steps make of the numbers' own places, or, where a step does more
than put numbers elsewhere, by autograd.

Dimension key: b examples, *s what the steps made, m of it flat, n of the parameter's numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.arguments import first
from preceptor.selection.entry import Entry
from preceptor.selection.experts import TURN, part, turned
from preceptor.selection.small import beside, copies, spread_to
from preceptor.selection.strange import misplaced, refusal
from preceptor.selection.tracked import Step, Tracked, Uses


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
        own = _made(value.steps, copies(entry))
        value.each = own if is_kept else value.each
        return own
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
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        _add(ctx.entry, ctx.steps, outer[0].flatten(1).to(ctx.entry.ledger.dtype))
        return None, None, None, None


def _add(entry: Entry, steps: Sequence[Step], slopes: Float[Tensor, "b m"]) -> None:
    """Add the gradient of each example, whose `slopes` are of what the steps made."""
    moving = len(steps)
    while moving and _moves(steps[moving - 1]):
        moving -= 1
    made = _made(steps[:moving], entry.parameter)
    places = _places(steps[moving:], made.shape, made.device)
    if not moving and entry.vocabulary and len(places) < made.numel():
        _add_rows(entry, places, slopes)
        return
    found = slopes.new_zeros(len(slopes), 1 + made.numel())
    found.scatter_add_(1, places.expand_as(slopes), slopes)
    gradient = found[:, 1:]
    if moving:
        gradient = _before(steps[:moving], entry.parameter, gradient)
    if entry.parameter.dim() == 2:
        entry.add_matrices([gradient.unflatten(1, entry.parameter.shape)])
    else:
        entry.add_flat(gradient)


def _moves(step: Step) -> bool:
    return step.keeps or step.func is TURN or (isinstance(step, Shared) and step.moves)


def _made(steps: Sequence[Step], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x


def _places(steps: Sequence[Step], shape: Sequence[int], device: torch.device) -> Int[Tensor, " m"]:
    """Which of the numbers before these steps stands at each place behind them, counted from 1.

    0 is a constant: what is the same whatever the numbers are.
    """
    # Numbers, for not all functions take integers; these are exact up to 2^53.
    count = torch.Size(shape).numel()
    found = torch.arange(1, count + 1, device=device, dtype=torch.float64).view(shape)
    without = torch.zeros_like(found)
    for step in steps:
        move = Tensor.contiguous if step.keeps else step
        found, without = move(found), move(without)
    return torch.where(found == without, 0, found).flatten().long()


def _add_rows(entry: Entry, places: Int[Tensor, " m"], slopes: Float[Tensor, "b m"]) -> None:
    """The same of a table with more rows than are read."""
    width = entry.parameter.shape[1]
    rows, which = (places - 1).div(width, rounding_mode="floor").unique(return_inverse=True)
    index = which * width + (places - 1) % width
    found = slopes.new_zeros(len(slopes), len(rows) * width)
    found.scatter_add_(1, index.expand_as(slopes), slopes)
    ids = rows.expand(len(slopes), -1)
    right = entry.columns.raw(found.view(len(slopes), -1, width))
    entry.add_rows(ids.clamp_min(0), right, ids >= 0)


def _before(
    steps: Sequence[Step], parameter: Tensor, slopes: Float[Tensor, "b m"]
) -> Float[Tensor, "b n"]:
    """The parameter's gradient of each example, from that of what steps made of it."""
    with torch.enable_grad():
        given = parameter.detach().requires_grad_()
        made = _made(steps, given)
    slopes = slopes.reshape(-1, *made.shape).to(made.dtype)
    (found,) = torch.autograd.grad(made, given, slopes, is_grads_batched=True)
    return found.flatten(1)


def _after(value: Tracked, step: Shared) -> Tracked:
    """What such a step makes of it.

    Raises:
        Strange: one example alone needs none; or numbers become others by their bits.
    """
    if value.entry.ledger.examples == 1 or _tracked((*step.arguments, *step.named.values())):
        raise refusal(value.entry, "together with another parameter, or for one example alone")
    found = value.after(step)
    if found.dtype != value.dtype:
        raise refusal(value.entry, f"as numbers of the type {found.dtype}")
    return found


def _tracked(values: Iterable[Any]) -> list[Tracked]:
    """Those among values, and in lists of them: torch's own walk takes longer."""
    found: list[Tracked] = []
    for each in values:
        if isinstance(each, Tracked):
            found.append(each)
        elif isinstance(each, tuple | list):
            found += _tracked(each)
    return found


def _moved(func: Any, value: Any, *rest: Any, **named: Any) -> Tracked:
    own = first(value, *rest, *named.values())
    if own is not value:
        raise refusal(own.entry, f"as how to do `{func.__name__}`")
    return _after(own, Shared(func, rest, named))


def _computed(func: Any, input: Tracked, *rest: Any, **named: Any) -> Tracked:
    return _after(input, Shared(func, rest, named, moves=False))


def _picked(func: Any, value: Any, index: Any) -> Tracked:
    """One of a stack of experts by its number, or any of the numbers."""
    is_number = isinstance(index, int) or (isinstance(index, Tensor) and index.dim() == 0)
    is_stack = isinstance(value, Tracked) and value.entry.has_parts and not is_shared(value)
    if is_number and is_stack:
        return part(func, value, index)
    return _moved(func, value, index)


def _turned(func: Any, value: Tracked, *axes: int, **named: int) -> Tracked:
    count = value.dim()
    last = {axis % count for axis in axes} == {count - 2, count - 1} if axes else count == 2
    if is_shared(value) or named or not last or count not in (2, 3):
        return _moved(func, value, *axes, **named)
    return turned(func, value, *axes)


def _expanded(func: Any, value: Tracked, *sizes: Any) -> Tensor:
    """Along the first axis once for each example; along others the same for all."""
    wanted = sizes if isinstance(sizes[0], int) else tuple(sizes[0])
    if len(wanted) == value.dim() and wanted[0] in (-1, len(value)) and is_shared(value):
        return _moved(func, value, wanted)
    return spread_to(value.entry, each_own(value), wanted)


def _joined(func: Any, tensors: Sequence[Any], *rest: Any, **named: Any) -> Tracked:
    """Of one parameter's own."""
    own = _tracked(tensors)
    if len(own) < len(tensors) or any(each.entry is not own[0].entry for each in own):
        raise refusal(own[0].entry, "together with what is none of its numbers")
    steps = [each.steps for each in own]
    every = all(_moves(step) for each in steps for step in each)
    whole = Tracked.of(own[0].entry.parameter, own[0].entry, own[0].uses)
    join = partial(_join, func, steps)
    return _after(whole, Shared(join, rest, named, moves=every))


def _join(
    func: Any, steps: Sequence[Sequence[Step]], x: Tensor, *rest: Any, **named: Any
) -> Tensor:
    return func([_made(each, x) for each in steps], *rest, **named)


def _chosen(func: Any, *arguments: Any, **named: Any) -> Tensor:
    """Numbers where a condition holds: the same for all where that is."""
    own = first(*arguments, *named.values())
    place = next((i for i, value in enumerate(arguments) if value is own), -1)
    others = [*arguments[:place], *arguments[place + 1 :]]
    tensors = [value for value in others if isinstance(value, Tensor)]
    for_all = all(not x.requires_grad and (not x.dim() or len(x) == 1) for x in tensors)
    if place >= 0 and for_all and not named and not _tracked(others):
        shape = torch.broadcast_shapes(own.shape, *(x.shape for x in tensors))
        if shape == own.shape and own.entry.ledger.examples > 1:
            return _after(own, Shared(func, others, place=place))
    return _met(func, *arguments, **named)


def _met(func: Any, *arguments: Any, **named: Any) -> Tensor:
    """One copy an example beside tensors that have rows of each."""
    own = first(*arguments, *named.values())
    everything = [*arguments, *named.values()]
    others = [each for each in everything if isinstance(each, Tensor) and each is not own]
    if _tracked(others) or own.entry.ledger.examples == 1:
        raise refusal(own.entry, f"in `{func.__name__}`")
    widest = max(others, key=lambda x: (x.dim(), len(x) if x.dim() else 0))
    copy = beside(own.entry, each_own(own), widest)
    given = [copy if each is own else each for each in arguments]
    return func(*given, **{name: copy if each is own else each for name, each in named.items()})


def reads_shared(entry: Entry, ids: Int[Tensor, "*n"]) -> bool:
    """Whether a table is read at `ids` once for all examples, and not for each of them.

    One example alone shows it: along the first axis there is more than one. It holds from then on:
    as many positions as examples are no examples.

    Raises:
        Strange: it was read for each example so far.
    """
    examples, rows = entry.ledger.examples, len(ids) if ids.dim() else 0
    if examples == 1:
        if ids.dim() > 1 and ids.numel() > 1:
            _reads(entry, ids, "one" if rows > 1 else "each")
        return False
    if entry.reading != "one" and (rows == examples or (ids.dim() > 1 and rows == 1)):
        return False
    _reads(entry, ids, "one")
    return True


def _reads(entry: Entry, ids: Tensor, reading: str) -> None:
    if entry.reading not in ("", reading):
        raise misplaced(entry, ids.shape)
    entry.reading = reading


def read(value: Tracked, ids: Int[Tensor, "*n"], padding: int | None) -> Tracked:
    """The rows at `ids`, the same for every example.

    Raises:
        Strange: one of them is the row `padding`, which has no gradient.
    """
    if padding is not None and (ids == padding).any():
        raise refusal(value.entry, "as a table with a row that does not learn")
    return _after(value, Shared(F.embedding, (ids,), place=1))


_ATTENTION = F.scaled_dot_product_attention
_MOVES = ("view", "reshape", "permute", "unsqueeze", "squeeze", "flatten", "flip", "clone")
_NO_METHODS = ("view",)

SHARED: Uses = {
    Tensor.__getitem__: _picked,
    Tensor.expand: _expanded,
    TURN: _turned,
    torch.transpose: _turned,
    Tensor.t: _turned,
    **{getattr(Tensor, name).__get__: _turned for name in ("T", "mT")},
    **{getattr(Tensor, name): _moved for name in _MOVES},
    **{getattr(torch, name): _moved for name in _MOVES if name not in _NO_METHODS},
    torch.cat: _joined,
    F.interpolate: _computed,
    torch.where: _chosen,
    Tensor.masked_fill: _chosen,
    _ATTENTION: _met,
}
"""What is done with a value that is the same for every example."""
