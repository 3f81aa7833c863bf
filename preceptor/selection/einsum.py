"""Products of a parameter by `torch.einsum`: a linear layer in other words, or a small one.

Dimension key: *n axes of what meets the parameter.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.selection.arguments import first, pair
from preceptor.selection.entry import Entry
from preceptor.selection.linear import linear
from preceptor.selection.shared import each_own
from preceptor.selection.strange import refusal
from preceptor.selection.tracked import Tracked

_SMALL = 1 << 15
"""Numbers of a parameter whose gradient may be made for each example."""


class Letters(NamedTuple):
    """The axes of what meets a parameter, of the parameter, and of their product."""

    x: str
    own: str
    gives: str


def einsum(_: Any, equation: Any, *operands: Any) -> Tensor:
    """A product of a parameter with one tensor.

    Raises:
        Strange: it is another one.
    """
    given: Sequence[Any] = operands[0] if len(operands) == 1 else operands
    value = first(*given)
    others = [each for each in given if not isinstance(each, Tracked)]
    if len(given) != 2 or len(others) != 1:
        raise refusal(value.entry, "in `einsum`, with other than one tensor")
    x: Tensor = others[0]
    letters = _letters(value.entry, equation, x, is_first=given[0] is value)
    summed = "".join(each for each in letters.own if each in letters.x)
    if _is_matrix(letters, summed, value.entry.axis):
        return _linear(letters, summed, x, value)
    return _of_each(letters, x, value)


def _letters(entry: Entry, equation: str, x: Tensor, *, is_first: bool) -> Letters:
    taken, _, gives = equation.replace(" ", "").partition("->")
    own, other = taken.split(",") if is_first else reversed(taken.split(","))
    if "..." in other and "..." not in own:
        free = (each for each in ascii_uppercase if each not in taken)
        dots = "".join(next(free) for _ in range(x.dim() + len("...") - len(other)))
        other, gives = other.replace("...", dots), gives.replace("...", dots)
    found = Letters(other, own, gives)
    if any("." in each or len(set(each)) < len(each) or not each for each in found):
        raise refusal(entry, f"in `einsum` as {equation}")
    return found


def _is_matrix(letters: Letters, summed: str, axis: int) -> bool:
    """Whether the parameter maps axes of x that are `summed` to new ones.

    Of the two sides of its matrix one is its first axis; and examples stand where they did.
    """
    x, own, gives = letters
    made = "".join(each for each in own if each not in summed)
    kept = "".join(each for each in x if each not in summed)
    sides = (summed, made) if own.startswith(summed) else (made, summed)
    is_product = sorted(gives) == sorted(kept + made) and own == "".join(sides)
    return (
        bool(made and summed) and is_product and len(sides[0]) == 1 and kept[axis:][:1] == x[axis]
    )


def _linear(letters: Letters, summed: str, x: Float[Tensor, "*n"], value: Tracked) -> Tensor:
    parameter, entry = pair(value)
    kept = "".join(each for each in letters.x if each not in summed)
    made = "".join(each for each in letters.own if each not in summed)
    rows = x.permute([letters.x.index(each) for each in kept + summed]).flatten(len(kept))
    is_turned = letters.own.startswith(summed)
    matrix = parameter.flatten(1)
    found = linear(value.entry.ledger, rows, (matrix, entry), transposed=is_turned)
    sizes = [parameter.shape[letters.own.index(each)] for each in made]
    found = found.unflatten(-1, sizes)
    return found.permute([(kept + made).index(each) for each in letters.gives])


def _of_each(letters: Letters, x: Float[Tensor, "*n"], value: Tracked) -> Tensor:
    """With one copy an example, whose gradient is made."""
    entry, (other, own, gives) = value.entry, letters
    examples, axis = entry.ledger.examples, min(entry.axis, x.dim() - 1)
    copies = each_own(value)
    if examples == 1:
        return torch.einsum(f"{other},{own}->{gives}", x, copies[0])
    example = other[axis]
    if x.shape[axis] != examples or example in own or value.numel() > _SMALL:
        raise refusal(entry, f"in `einsum` as {other},{own}->{gives}")
    return torch.einsum(f"{other},{example}{own}->{gives}", x, copies)
