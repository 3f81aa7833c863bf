"""What a function of torch's is given: parameters that notice it, and their ledger."""

from typing import Any

from torch import Tensor

from preceptor.selection.entry import Entry
from preceptor.selection.ledger import Ledger
from preceptor.selection.strange import refusal
from preceptor.selection.tracked import Tracked


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
