"""Functions of a parameter that no example plays a part in, and where what they made meets one.

Attributes:
    SHARED: what is done in place of each.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.arguments import first
from preceptor.selection.entry import Entry
from preceptor.selection.experts import TURN, part, turned
from preceptor.selection.shared import CHOICES, Shared, each_own, is_shared, made, moves
from preceptor.selection.small import beside, spread_to
from preceptor.selection.strange import misplaced, refusal
from preceptor.selection.tracked import Rules, Step, Tracked


def _after(value: Tracked, step: Shared) -> Tracked:
    """What such a step makes of it.

    Raises:
        Strange: one example alone needs none; or numbers become others by their bits.
    """
    is_needed = value.entry.ledger.examples > 1 or step.func in _IN_ORDER
    if not is_needed or _tracked((*step.arguments, *step.named.values())):
        raise refusal(value.entry, "together with another parameter, or for one example alone")
    found = value.after(step)
    if found.dtype != value.dtype:
        raise refusal(value.entry, f"as numbers of the type {found.dtype}")
    whole = value.entry.parameter.shape
    if found.shape == whole and all(each.func in _IN_ORDER for each in found.steps):
        found.steps = ()  # An axis was taken away and put back.
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
    every = all(moves(step) for each in steps for step in each)
    whole = Tracked.of(own[0].entry.parameter, own[0].entry, own[0].uses)
    join = partial(_join, func, steps)
    return _after(whole, Shared(join, rest, named, moves=every))


def _join(
    func: Any, steps: Sequence[Sequence[Step]], x: Tensor, *rest: Any, **named: Any
) -> Tensor:
    return func([made(each, x) for each in steps], *rest, **named)


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
    if not any(own.entry.meets(other, func) for other in others):
        raise refusal(own.entry, "together with what is the same for all examples")
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
_IN_ORDER = {
    getattr(kind, name)
    for name in ("view", "reshape", "unsqueeze", "squeeze", "flatten")
    for kind in (Tensor, torch)
    if kind is Tensor or name not in _NO_METHODS
}
"""Functions behind which numbers stand in the order that they had."""

SHARED: Rules = {
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
    **dict.fromkeys(CHOICES, _chosen),
    _ATTENTION: _met,
}
"""What is done with a value that is the same for every example."""
