"""Along which axis examples stand in what a parameter meets, where that is not the first.

Models that were written for recurrences have positions first: [t, b, w]. Nothing is read off one
shape. A few examples are run, and then each of them twice, and every parameter notes the shapes of
what it meets: the axis that is twice as long is the examples'. What stands along it in another
order is shown by the proof (`proof.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from preceptor.batches import Batch
from preceptor.selection.ledger import Ledger
from preceptor.selection.strange import Strange
from preceptor.selection.tracked import Tracked, Uses, held, tracking
from preceptor.types import map_tensors

Shapes = list[tuple[int, ...]]
"""Of all that one parameter met, in turn."""


def learn_axes(
    module: nn.Module, ledger: Ledger, run: Callable[[Batch], object], few: Batch
) -> bool:
    """Note of every entry where its examples stand.

    Args:
        module: the whole model.
        ledger: of its parameters.
        run: a plain pass.
        few: examples.

    Returns:
        Whether one of them has another axis than before.
    """
    once, twice = (_met(module, ledger, run, batch) for batch in (few, doubled(few)))
    is_new = False
    for entry in ledger.entries:
        axis = _axis(once.get(entry.number, []), twice.get(entry.number, []))
        if axis != entry.axis:
            entry.axis, entry.reading, is_new = axis, "", True
    return is_new


def doubled(batch: Batch) -> Batch:
    """The examples, and then the same ones again."""
    return Batch(**{name: map_tensors(value, _twice) for name, value in batch.fields().items()})


def _twice(tensor: Tensor) -> Tensor:
    return torch.cat([tensor, tensor])


def _axis(once: Shapes, twice: Shapes) -> int:
    """The one axis that is twice as long wherever one is another; 0 where there is no such one."""
    found: set[int] = set()
    for one, other in zip(once, twice, strict=False):
        if len(one) != len(other):
            return 0
        found |= {place for place, size in enumerate(one) if size != other[place]}
        if any(size not in (2 * one[place], one[place]) for place, size in enumerate(other)):
            return 0
    return found.pop() if len(found) == 1 and len(once) == len(twice) else 0


def _met(
    module: nn.Module, ledger: Ledger, run: Callable[[Batch], object], batch: Batch
) -> dict[int, Shapes]:
    seen = _Seen()
    running, ledger.running = ledger.running, None
    places = [each for each in held(module, ledger, seen.uses) if not each.tracked.entry.is_whole]
    try:
        # What cannot be run so has told enough.
        with tracking(places), suppress(Strange, RuntimeError):
            run(batch)
    finally:
        ledger.running = running
    return seen.shapes


@final
class _Seen(Mapping[Any, Callable[..., Any]]):
    """In place of rules: each function does what it does, and shapes are noted."""

    def __init__(self) -> None:
        self.shapes: dict[int, Shapes] = {}
        self.uses = Uses(self, self._noted)

    def __contains__(self, func: object) -> bool:
        return True

    def __getitem__(self, func: Any) -> Callable[..., Any]:
        return self._noted

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def _noted(self, func: Any, *arguments: Any, **named: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves((arguments, named)) if isinstance(leaf, Tensor)]
        own = [leaf for leaf in tensors if isinstance(leaf, Tracked)]
        others = [leaf for leaf in tensors if not isinstance(leaf, Tracked)]
        for each in own:
            shapes = self.shapes.setdefault(each.entry.number, [])
            # A head is given no positions.
            shapes += [tuple(other.shape) for other in others if other.numel()]
        found = func(*arguments, **named)
        if others or not isinstance(found, Tensor):
            return found
        return Tracked.of(found, own[0].entry, self.uses)
