"""What a function of torch's is given: parameters that notice it, and their ledger."""

from collections.abc import Callable, Sequence
from typing import Any, final

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from preceptor.selection.entry import Entry
from preceptor.selection.ledger import Ledger
from preceptor.selection.strange import refusal
from preceptor.selection.tracked import Tracked


@final
class Arguments:
    """All that a function is given, one behind another.

    Args:
        args, named: as it is given them.
    """

    def __init__(self, args: Sequence[Any], named: dict[str, Any]) -> None:
        self._count, self._names, self._form = len(args), tuple(named), None
        self.leaves: list[Any] = [*args, *named.values()]
        if any(_holds(value) for value in self.leaves):
            self.leaves, self._form = tree_flatten((tuple(args), named))

    def given_to(self, func: Callable[..., Any], leaves: Sequence[Any]) -> Any:
        """What the function gives for others in their places."""
        if self._form is None:
            named = zip(self._names, leaves[self._count :], strict=True)
            return func(*leaves[: self._count], **dict(named))
        args, others = tree_unflatten(leaves, self._form)
        return func(*args, **others)


def _holds(value: Any) -> bool:
    """Whether tensors may be in it: torch's own walk through what holds none takes longer."""
    if isinstance(value, tuple | list):
        return any(isinstance(each, Tensor) or _holds(each) for each in value)
    return isinstance(value, dict)


def pair(value: Any) -> tuple[Any, Entry | None]:
    """A parameter for a product: its numbers, and its entry where its gradient counts."""
    if not isinstance(value, Tracked):
        return value, None
    if value.steps and not all(step.keeps for step in value.steps):
        raise refusal(value.entry, "in a product, after numbers changed its scale")
    return value.plain(), value.entry


def first(*values: Any) -> Tracked:
    """The first that is one."""
    for value in values:
        if isinstance(value, Tracked):
            return value
    raise TypeError("none of what a function was given is a tracked parameter")


def ledger_of(x: Any, *parameters: Any) -> Ledger:
    """The ledger of a layer's parameters.

    Raises:
        Strange: what the layer is given, or one of them, is not a plain tensor, or a parameter.
    """
    if isinstance(x, Tracked):
        raise refusal(x.entry, "as what a layer is given")
    entry = first(*parameters).entry
    for each in parameters:
        is_plain = each is not None and not isinstance(each, Tracked)
        if is_plain and isinstance(each, Tensor) and each.grad_fn is not None:
            raise refusal(entry, "in a layer together with what is no parameter")
    return entry.ledger
