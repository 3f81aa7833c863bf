"""A parameter that notices where it is used.

In the block of `tracking`, every parameter whose gradient counts is replaced by a tensor of its
own kind. Torch hands it each function that it is an argument of, whichever module calls: so
a subclass of a layer, an adapter's wrapping or a model's own norm needs no rule. A function
without a rule (`uses.py`) is refused by the parameter's name; none is passed over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from preceptor.errors import ModelError
from preceptor.selection.ledger import Entry, Ledger

Uses = Mapping[Any, Callable[..., Any]]
"""What is done in place of a function of torch's; it is given the function and its arguments."""


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


class Tracked(Tensor):
    """A parameter, or what `steps` made of it."""

    entry: Entry
    uses: Uses
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, value: Tensor, entry: Entry, uses: Uses) -> "Tracked":
        """`value` as one; it holds the same memory."""
        tracked = value.detach().as_subclass(cls)
        tracked.entry, tracked.uses, tracked.steps = entry, uses, ()
        return tracked

    def after(self, step: Step) -> "Tracked":
        """What a step makes of it."""
        tracked = Tracked.of(step(self.plain()), self.entry, self.uses)
        tracked.steps = (*self.steps, step)
        return tracked

    def plain(self) -> Tensor:
        """The numbers themselves."""
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(Tensor)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        first = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tracked))
        with torch._C.DisableTorchFunctionSubclass():
            uses, entry = first.uses, first.entry
            if func in uses:
                return uses[func](func, *args, **(kwargs or {}))
            found = func(*args, **(kwargs or {}))
        # Shapes, dtypes and devices are for everybody.
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(found)):
            return found
        raise refusal(entry, f"in `{getattr(func, '__name__', func)}`")


def refusal(entry: Entry, how: str) -> ModelError:
    """What is raised where a parameter is used in a way that is not known."""
    return ModelError(
        f"the parameter {entry.name} is used {how}",
        "how each example's gradient comes about is not known there",
        "Use exact features for this model (kind: exact, projection: counts), or freeze what "
        "cannot be sketched.",
    )


@contextmanager
def tracking(module: nn.Module, ledger: Ledger, uses: Uses) -> Iterator[None]:
    """In the block the parameters that the ledger knows notice where they are used."""
    replaced: list[tuple[dict[str, Any], str, nn.Parameter]] = []
    try:
        for part in module.modules():
            for name, parameter in part._parameters.items():
                entry = ledger.find(parameter)
                if parameter is not None and entry is not None:
                    replaced.append((part._parameters, name, parameter))
                    part._parameters[name] = Tracked.of(parameter, entry, uses)  # pyright: ignore[reportArgumentType]
        yield
    finally:
        for held, name, parameter in replaced:
            held[name] = parameter
