"""Which of the tensors that modules take and give have rows of their own for each example.

Nothing is read off shapes: a few examples are run, and then each of them twice. What has rows of
its examples, one after another, is then the same rows once more behind themselves; what all
examples share is as it was. Anything else (tokens sorted by expert, another order of axes) is
neither.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from preceptor.batches import Batch
from preceptor.selection.axes import doubled

_NEAR, _ROUNDED = 1e-3, 5e-2
"""How far, of their size, the same rows may lie apart in batches of different sizes."""


@final
class Layout:
    """Of one module's tensors, by their place among all that it takes and gives.

    `takes` and `gives` say of a place whether each example has rows of its own there; of a place
    that held no tensor so far they say nothing.
    """

    def __init__(self) -> None:
        self.takes: dict[int, bool] = {}
        self.gives: dict[int, bool] = {}

    def learn(self, once: "_Calls", twice: "_Calls") -> bool:
        """What two passes show, added to what is known; False where it is neither, or another."""
        if not once or len(once) != len(twice):
            return False
        for (took, gave), (took_twice, gave_twice) in zip(once, twice, strict=True):
            fits = _learned(self.takes, took, took_twice) and _learned(self.gives, gave, gave_twice)
            if not fits:
                return False
        return any(self.takes.values())


_Calls = Sequence[tuple[Sequence[Any], Sequence[Any]]]
"""What a module took and gave, call by call, flat."""


def _learned(known: dict[int, bool], once: Sequence[Any], twice: Sequence[Any]) -> bool:
    if len(once) != len(twice):
        return False
    for place, (one, other) in enumerate(zip(once, twice, strict=True)):
        if not isinstance(one, Tensor):
            if one is not other and (not isinstance(one, int | float | str) or one != other):
                return False
            continue
        has_rows = _has_rows(one, other)
        if has_rows is None or known.setdefault(place, has_rows) != has_rows:
            return False
    return True


def _has_rows(one: Tensor, other: Any) -> bool | None:
    if (
        not isinstance(other, Tensor)
        or one.dim() != other.dim()
        or one.shape[1:] != other.shape[1:]
    ):
        return None
    if one.shape == other.shape:
        return False if _same(one, other) else None
    if len(other) != 2 * len(one):
        return None
    return True if _same(torch.cat([one, one]), other) else None


def _same(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    # Masks hold the smallest number there is, or minus infinity.
    near = _ROUNDED if one.dtype in (torch.float16, torch.bfloat16) else _NEAR
    one, other = (each.detach().double().nan_to_num().clamp(-1e9, 1e9) for each in (one, other))
    return float((one - other).norm()) <= near * float(one.norm())


def learned(
    modules: Mapping[str, nn.Module],
    run: Callable[[Batch], object],
    few: Batch,
    known: Mapping[str, Layout],
) -> dict[str, Layout]:
    """The layouts of those modules that have one, seen in two passes of `run`.

    They are added to what is `known`.
    """
    with _recorded(modules) as once:
        run(few)
    with _recorded(modules) as twice:
        run(doubled(few))
    found = {name: known.get(name) or Layout() for name in modules}
    return {name: each for name, each in found.items() if each.learn(once[name], twice[name])}


def _keep(calls: list[Any], _: nn.Module, args: Any, kwargs: Any, gave: Any) -> None:
    calls.append((tree_leaves((args, kwargs)), tree_leaves(gave)))


@contextmanager
def _recorded(
    modules: Mapping[str, nn.Module],
) -> Iterator[dict[str, list[tuple[list[Any], list[Any]]]]]:
    """In the block all that the modules take and give is kept."""
    seen: dict[str, list[tuple[list[Any], list[Any]]]] = {name: [] for name in modules}
    handles = [
        part.register_forward_hook(partial(_keep, seen[name]), with_kwargs=True)
        for name, part in modules.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
