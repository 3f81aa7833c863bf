"""Modules that are run one example at a time, within a pass over the batch.

Where no rule tells which example's gradient is which (experts that tokens are sorted to, a table
of relative positions read once for all, a state space's own parameters), the innermost module
around it whose tensors have rows for each example is given one example's rows after another. There
every use is that example's: rules serve as before, and for a function without a rule autograd's own
gradient is sketched. Where no module has such rows, the whole model is run so.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from preceptor.batches import Batch
from preceptor.selection.first_order import first_order
from preceptor.selection.layouts import Layout, learned
from preceptor.selection.ledger import Ledger
from preceptor.selection.strange import Chain, unfit


@final
class Apart:
    """Which modules are run so, and how.

    Args:
        module: the whole model.
        ledger: of its parameters.
    """

    def __init__(self, module: nn.Module, ledger: Ledger) -> None:
        self._named = dict(module.named_modules())
        self._ledger = ledger
        self._layouts: dict[str, Layout] = {}
        self.is_whole = False

    @property
    def names(self) -> tuple[str, ...]:
        """The modules'; '' is the whole model."""
        return ("",) if self.is_whole else tuple(sorted(self._layouts))

    def extend(self, chains: Sequence[Chain], run: Callable[[Batch], object], few: Batch) -> None:
        """For each chain, take the innermost module that can be run apart and is not yet.

        Without a chain, look at the tensors of those that are taken again.

        Args:
            chains: modules that ran where something strange was met.
            run: a plain pass, whose modules are watched.
            few: examples, at least two.
        """
        outer = [self._above(chain) for chain in chains]
        wanted = {each for chain in outer for name in chain for each in self._alike(name)}
        modules = {name: self._named[name] for name in (wanted | set(self._layouts)) - {""}}
        before = {name: dict(each.takes) for name, each in self._layouts.items()}
        layouts = learned(modules, run, few, self._layouts)
        self._layouts = {name: each for name, each in self._layouts.items() if name in layouts}
        for chain in outer:
            fitting = [name for name in chain if name in layouts]
            for name in self._alike(fitting[-1]) if fitting else ():
                if name in layouts:
                    self._layouts[name] = layouts[name]
            self.is_whole |= not fitting
        self.is_whole |= before == {name: each.takes for name, each in self._layouts.items()}

    def _above(self, chain: Chain) -> Chain:
        """The part of a chain that is outside of all that is run apart."""
        for place, name in enumerate(chain):
            if name in self._layouts:
                return chain[:place]
        return chain

    def _alike(self, name: str) -> list[str]:
        """The modules at the same place of other blocks, and itself."""
        pattern = re.sub(r"\d+", "#", name)
        return [each for each in self._named if re.sub(r"\d+", "#", each) == pattern]

    @contextmanager
    def running(self) -> Iterator[None]:
        """In the block these modules' passes go through one example after another."""
        with ExitStack() as stack:
            if self._ledger.running is not None:
                stack.enter_context(_noted(self._named, self._ledger.running))
            if self._ledger.examples > 1:
                for name, layout in self._layouts.items():
                    stack.enter_context(self._replaced(self._named[name], layout))
            yield

    @contextmanager
    def _replaced(self, part: nn.Module, layout: Layout) -> Iterator[None]:
        own, held = part.forward, part.__dict__.get("forward")
        part.forward = partial(_forward, self._ledger, own, layout)
        try:
            yield
        finally:
            if held is None:
                del part.forward
            else:
                part.forward = held


def _forward(ledger: Ledger, own: Any, layout: Layout, *args: Any, **kwargs: Any) -> Any:
    if ledger.examples == 1:  # Inside of another that is run apart.
        return own(*args, **kwargs)
    return _each_alone(ledger, own, layout, args, kwargs)


@contextmanager
def _noted(named: dict[str, nn.Module], running: list[str]) -> Iterator[None]:
    """In the block `running` are the names of the modules that run, the outermost first."""
    running.clear()
    handles: list[Any] = []
    for name, part in named.items():
        enter, leave = partial(_enter, running, name), partial(_leave, running)
        handles.append(part.register_forward_pre_hook(enter, prepend=True))
        handles.append(part.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(running: list[str], name: str, *_: Any) -> None:
    running.append(name)


def _leave(running: list[str], *_: Any) -> None:
    running.pop()


@final
@dataclass
class _Run:
    """A module's passes for a batch, example by example.

    Args:
        ledger: of its parameters.
        call: its forward pass.
        leaves, form: what it takes for the batch, flat, and how to put it together again.
        places: where tensors are among them.
        rows: of each of these, whether it has rows for each example.
        gives: of each place of what it gives, the same.
        first, gave: what it gives for the first example, flat, and its form.
    """

    ledger: Ledger
    call: Callable[..., Any]
    leaves: list[Any]
    form: Any
    places: list[int]
    rows: list[bool]
    gives: Mapping[int, bool]
    first: list[Any] = field(default_factory=list)
    gave: Any = None
    kept: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)

    def forward(self, tensors: Sequence[Tensor], learn: Sequence[bool]) -> None:
        """Every example's pass, whose graphs are kept."""
        count = self.ledger.examples
        for example in range(count):
            own: list[Tensor] = []
            for tensor, has_rows, learns in zip(tensors, self.rows, learn, strict=True):
                each = tensor.unflatten(0, (count, -1))[example] if has_rows else tensor
                own.append(each.detach().requires_grad_(learns))
            with torch.enable_grad(), self.ledger.only(example):
                # A copy, for it may be written to.
                found, form = self._alone([each.clone() for each in own])
            if not example:
                self.first, self.gave = found, form
            self.kept.append((own, [leaf for leaf in found if isinstance(leaf, Tensor)]))

    def _alone(self, tensors: Sequence[Tensor]) -> tuple[list[Any], Any]:
        leaves = list(self.leaves)
        for place, each in zip(self.places, tensors, strict=True):
            leaves[place] = each
        args, kwargs = tree_unflatten(leaves, self.form)
        return tree_flatten(self.call(*args, **kwargs))

    def together(self) -> list[Tensor]:
        """What the module gives for the batch, tensor by tensor."""
        places = [place for place, leaf in enumerate(self.first) if isinstance(leaf, Tensor)]
        found: list[Tensor] = []
        for number, place in enumerate(places):
            each = [tensors[number] for _, tensors in self.kept]
            has_rows = self.gives.get(place)
            if has_rows is None:
                raise unfit(self.ledger, "gives a tensor where none was before", again=True)
            if has_rows or (each[0].requires_grad and each[0].shape[:1] == (1,)):
                # What all share, but parameters made it, is each example's own.
                found.append(torch.cat(each))
            elif each[0].requires_grad:
                raise unfit(self.ledger, "gives all examples one tensor")
            else:
                found.append(each[0])
        return found

    def backward(self, example: int, outer: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradient of one example's tensors; that of its parameters goes to the ledger."""
        own, gave = self.kept[example]
        leaves: list[Tensor] = []
        slopes: list[Tensor] = []
        for leaf, slope in zip(gave, outer, strict=True):
            if slope is not None and leaf.requires_grad:
                leaves.append(leaf)
                slopes.append(slope.unflatten(0, (len(self.kept), -1))[example])
        if leaves:
            with self.ledger.only(example):
                torch.autograd.backward(leaves, slopes)
        self.kept[example] = ([], [])
        return [each.grad for each in own]


class _Alone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, run: _Run, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        ctx.set_materialize_grads(False)
        run.forward(tensors, ctx.needs_input_grad[2:])
        ctx.run, ctx.shapes = run, [each.shape for each in tensors]
        found = run.together()
        own = zip(*(gave for _, gave in run.kept), strict=True)
        learn = [any(each.requires_grad for each in column) for column in own]
        found = [each.detach() for each in found]
        still = [each for each, learns in zip(found, learn, strict=True) if not learns]
        ctx.mark_non_differentiable(*still)
        return tuple(found)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        each = [ctx.run.backward(example, outer) for example in range(len(ctx.run.kept))]
        slopes: list[Tensor | None] = []
        for place, wanted in enumerate(ctx.needs_input_grad[2:]):
            own = [found[place] for found in each]
            met = [one for one in own if one is not None]
            if not wanted or not met:
                slopes.append(None)
                continue
            zero = torch.zeros_like(met[0])
            slopes.append(torch.cat([zero if one is None else one for one in own]))
        return None, None, *slopes


def _each_alone(
    ledger: Ledger, call: Callable[..., Any], layout: Layout, args: Any, kwargs: Any
) -> Any:
    """What a module gives for the batch, put together from what it gives for each example."""
    leaves, form = tree_flatten((args, kwargs))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    rows = tuple(layout.takes.get(place) for place in places)
    for place, has_rows in zip(places, rows, strict=True):
        if has_rows is None:
            raise unfit(ledger, "takes a tensor where none was before", again=True)
        if len(leaves[place]) % ledger.examples if has_rows else leaves[place].requires_grad:
            raise unfit(ledger, "takes a tensor without rows for each example")
    own_rows = [bool(each) for each in rows]
    run = _Run(ledger, call, leaves, form, places, own_rows, layout.gives)
    found = _Alone.apply(ledger.anchor, run, *(leaves[place] for place in places))
    assert isinstance(found, tuple)
    tensors = iter(found)
    whole = [next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in run.first]
    run.first, run.leaves = [], []
    return tree_unflatten(whole, run.gave)
