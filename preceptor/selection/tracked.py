"""A parameter that notices where it is used.

In the block of `tracking`, every parameter whose gradient counts is replaced by a tensor of its
own kind. Torch hands it each function that it is an argument of, whichever module calls: so
a subclass of a layer, an adapter's wrapping or a model's own norm needs no rule. A function
without a rule (`uses.py`) is `Strange`, and none is passed over: what uses the parameter is then
run one example at a time (`apart.py`), where autograd's own gradient is the example's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from preceptor.selection.entry import Entry
from preceptor.selection.first_order import first_order
from preceptor.selection.ledger import Ledger
from preceptor.selection.strange import Strange, changed, refusal

Rules = Mapping[Any, Callable[..., Any]]
"""What is done in place of a function of torch's; it is given the function and its arguments."""


class Uses(NamedTuple):
    """What is done in place of functions.

    Attributes:
        rules: of those that are known.
        otherwise: of any other one, given the function, its arguments, and those with names.
    """

    rules: Rules
    otherwise: Callable[[Any, Sequence[Any], dict[str, Any]], Any]


@dataclass(frozen=True)
class Step:
    """A function of the parameter and of numbers alone: one that casts it, 1 + w, or 2 w.

    Attributes:
        keeps: whether gradients of what it gives are those of the parameter.
    """

    func: Any
    arguments: Sequence[Any]
    named: Mapping[str, Any] = field(default_factory=dict)
    place: int = 0
    keeps: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """The same of x."""
        before, after = self.arguments[: self.place], self.arguments[self.place :]
        return self.func(*before, x, *after, **self.named)


_WRITTEN = "as what is written to"


class Tracked(Tensor):
    """A parameter, or what `steps` made of it."""

    entry: Entry
    uses: Uses
    steps: tuple[Step, ...]
    numbers: Tensor
    each: Tensor | None = None
    """One copy an example, once they were asked for."""

    @classmethod
    def of(cls, value: Tensor, entry: Entry, uses: Uses) -> "Tracked":
        """`value` as one; it holds the same memory."""
        numbers = value.detach()
        tracked = numbers.as_subclass(cls)
        tracked.entry, tracked.uses, tracked.steps = entry, uses, ()
        tracked.numbers = numbers
        return tracked

    def after(self, step: Step) -> "Tracked":
        """What a step makes of it."""
        tracked = Tracked.of(step(self.plain()), self.entry, self.uses)
        tracked.steps = (*self.steps, step)
        return tracked

    def plain(self) -> Tensor:
        """The numbers themselves."""
        return self.numbers

    def own(self) -> Tensor:
        """The numbers of one example alone, with autograd's own gradient."""
        found = _Whole.apply(self.entry.ledger.anchor, self.entry)
        assert isinstance(found, Tensor)
        for step in self.steps:
            found = step(found)
        return found

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Asked by torch of every function that one of these is an argument of."""
        if not _KINDS.issuperset(types):
            return NotImplemented  # Theirs to answer.
        named = kwargs or {}
        first = _first((*args, *named.values()) if named else args)
        with torch._C.DisableTorchFunctionSubclass():
            uses, entry = first.uses, first.entry
            if not torch.is_grad_enabled():  # What is made here has no gradient.
                args, named = tree_map_only(Tracked, Tracked.plain, (args, named))
                return func(*args, **named)
            entry.seen()
            refused: Strange | None = None
            if func in uses.rules and not entry.is_whole:
                try:
                    return uses.rules[func](func, *args, **named)
                except Strange as found:
                    # What it came through would hold this call, and so all that it was given.
                    refused = found.with_traceback(None)
            name = getattr(func, "__name__", str(func))
            if name.endswith("_") and not name.endswith("__") and args and args[0] is first:
                # A parameter itself is gone then; what was made of it is made for each example.
                raise refusal(entry, _WRITTEN) if first.steps else changed(entry)
            if entry.ledger.examples == 1:
                args, named = tree_map_only(Tracked, Tracked.own, (args, named))
                return func(*args, **named)
            try:
                return uses.otherwise(func, args, named)
            except Strange as found:
                raise (refused or found) from None


_KINDS = frozenset({Tracked, Tensor, nn.Parameter})


def _first(values: Sequence[Any]) -> Tracked:
    """The first that is one, alone or in a list: torch's own walk through lists takes longer."""
    for value in values:
        if isinstance(value, Tracked):
            return value
    return next(leaf for leaf in tree_leaves(values) if isinstance(leaf, Tracked))


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, entry: Entry) -> Tensor:  # noqa: ARG004
        ctx.entry = entry
        return entry.parameter.view_as(entry.parameter)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.entry.add_whole(outer[0])
        return None, None


class Held(NamedTuple):
    """Where a module holds a parameter that a ledger knows, and what stands there in a pass."""

    holder: dict[str, Any]
    name: str
    parameter: nn.Parameter
    tracked: Tracked
    place: int  # Of its numbers in memory.


def held(module: nn.Module, ledger: Ledger, uses: Uses) -> list[Held]:
    """All of a module's."""
    found: list[Held] = []
    for part in module.modules():
        for name, parameter in part._parameters.items():
            entry = ledger.find(parameter)
            if parameter is not None and entry is not None:
                tracked = Tracked.of(parameter, entry, uses)
                place = parameter.data_ptr()
                found.append(Held(part._parameters, name, parameter, tracked, place))
    return found


@contextmanager
def tracking(places: Iterable[Held]) -> Iterator[None]:
    """In the block parameters notice where they are used."""
    done: list[Held] = []
    try:
        for each in places:
            tracked = each.tracked
            if each.parameter.data_ptr() != each.place:  # Moved since.
                tracked = Tracked.of(each.parameter, tracked.entry, tracked.uses)
            each.holder[each.name] = tracked
            done.append(each)
        yield
    finally:
        for each in done:
            each.holder[each.name] = each.parameter
            each.tracked.each = None  # It holds the pass's graph.
