"""Products of a parameter by `torch.einsum`: a linear layer in other words, or a small one.

Dimension key: b examples, *n axes of what meets the parameter, *s of the parameter or of what was
made of it, *m of what they give.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.selection.arguments import first, pair
from preceptor.selection.entry import Entry
from preceptor.selection.first_order import first_order
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

    @property
    def summed(self) -> str:
        """Those that both have."""
        return "".join(each for each in self.own if each in self.x)

    @property
    def made(self) -> str:
        """The parameter's others."""
        return "".join(each for each in self.own if each not in self.x)

    @property
    def kept(self) -> str:
        """Those of x that the parameter has not."""
        return "".join(each for each in self.x if each not in self.own)

    @property
    def is_matrix(self) -> bool:
        """Whether axes that are summed are mapped to new ones, one side the parameter's first."""
        sides = [self.summed, self.made]
        sides = sides if self.own.startswith(self.summed) else sides[::-1]
        is_product = sorted(self.gives) == sorted(self.kept + self.made)
        return all(sides) and is_product and self.own == "".join(sides) and len(sides[0]) == 1

    def stays(self, axis: int) -> bool:
        """Whether an axis of x is at the same place of those that are kept."""
        return self.kept[axis : axis + 1] == self.x[axis]


def einsum(_: Any, equation: Any, *operands: Any) -> Tensor:
    """A product of a parameter with one tensor that has rows of each example.

    Raises:
        Strange: it is another one.
    """
    value = first(*_given(operands))
    entry, x, letters = value.entry, *_met(value.entry, equation, operands, value)
    if not entry.axis and not entry.ledger.is_of_each(x, (torch.einsum, entry.name)):
        raise refusal(entry, "in `einsum`, with what is the same for all examples")
    if letters.is_matrix and letters.stays(entry.axis):
        return _linear(letters, x, value)
    copies = each_own(value)
    if entry.ledger.examples == 1:
        return torch.einsum(f"{letters.x},{letters.own}->{letters.gives}", x, copies[0])
    if value.numel() > _SMALL:
        raise refusal(entry, f"in `einsum`, with {value.numel()} numbers that are no matrix")
    return _of_each(entry, letters, x, copies)


def einsum_once(equation: Any, *operands: Any) -> Float[Tensor, "b *m"]:
    """A product of a parameter with what is the same for all examples: one copy an example.

    Raises:
        Strange: it is none of a matrix.
    """
    value = first(*_given(operands))
    x, letters = _met(value.entry, equation, operands, value)
    if not letters.is_matrix or value.entry.axis:
        raise refusal(value.entry, f"in `einsum` as {equation}")
    return _linear(letters, x, value, once=True)


def einsum_beside(
    entry: Entry, equation: Any, operands: Sequence[Any], value: Any, every: Float[Tensor, "b *s"]
) -> Float[Tensor, "*m"]:
    """A product of `value`, which is the same for all examples, with what has rows of each.

    Args:
        entry: of a parameter that it was made of.
        equation, operands: what `einsum` was given.
        value: one of them.
        every: one copy of it an example.

    Raises:
        Strange: it is of another form.
    """
    x, letters = _met(entry, equation, operands, value)
    return _of_each(entry, letters, x, every)


def _given(operands: Sequence[Any]) -> Sequence[Any]:
    return operands[0] if len(operands) == 1 else operands


def _met(
    entry: Entry, equation: Any, operands: Sequence[Any], value: Any
) -> tuple[Tensor, "Letters"]:
    """The one tensor beside `value`, and the letters."""
    given = _given(operands)
    others = [each for each in given if each is not value]
    if len(given) != 2 or len(others) != 1 or type(others[0]) not in (Tensor, nn.Parameter):
        raise refusal(entry, "in `einsum`, with other than one tensor")
    return others[0], _letters(entry, equation, others[0], is_first=given[0] is value)


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


def _linear(
    letters: Letters, x: Float[Tensor, "*n"], value: Tracked, *, once: bool = False
) -> Tensor:
    (parameter, entry), ledger = pair(value), value.entry.ledger
    _, own, gives = letters
    kept, made = letters.kept, letters.made
    rows = x.permute([letters.x.index(each) for each in kept + letters.summed]).flatten(len(kept))
    rows = rows.expand(ledger.examples, *rows.shape) if once else rows
    matrix, is_turned = (parameter.flatten(1), entry), own.startswith(letters.summed)
    axis = value.entry.axis
    is_one = ledger.examples > 1 and not (rows.stride(axis) or rows.requires_grad)
    found = linear(ledger, rows, matrix, transposed=is_turned, once=is_one)
    found = found.unflatten(-1, [parameter.shape[own.index(each)] for each in made])
    places = [(kept + made).index(each) for each in gives]
    return found.permute([0, *(place + 1 for place in places)] if once else places)


def _of_each(
    entry: Entry, letters: Letters, x: Float[Tensor, "*n"], every: Float[Tensor, "b *s"]
) -> Float[Tensor, "*m"]:
    """With one copy an example, each with its own gradient."""
    axis = min(entry.axis, x.dim() - 1)
    is_product = all(each in two for each, two in _two_each(letters))
    if x.shape[axis] != len(every) or letters.x[axis] in letters.own or not is_product:
        raise refusal(entry, f"in `einsum` as {letters.x},{letters.own}->{letters.gives}")
    found = _Beside.apply(x, every, letters, axis)
    assert isinstance(found, Tensor)
    return found


def _two_each(letters: Letters) -> Sequence[tuple[str, str]]:
    """Each letter of the factors, and those of the other factor and the product."""
    x, own, gives = letters
    return [*((each, own + gives) for each in x), *((each, x + gives) for each in own)]


class _Beside(torch.autograd.Function):
    """No copy is made, but for the gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "*n"], every: Float[Tensor, "b *s"], letters: Letters, axis: int
    ) -> Float[Tensor, "*m"]:
        ctx.save_for_backward(x, every[0])
        ctx.letters, ctx.axis = letters, axis
        found = torch.einsum(f"{letters.x},{letters.own}->{letters.gives}", x, every[0])
        # What it gives may be written to, as what torch gives may.
        return torch.ops.aten._unsafe_view.default(found, found.shape)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (x, value), (other, own, gives) = outer, ctx.saved_tensors, ctx.letters
        back, slopes = None, None
        if ctx.needs_input_grad[0]:
            back = torch.einsum(f"{gives},{own}->{other}", slope, value)
        if ctx.needs_input_grad[1]:
            slopes = torch.einsum(f"{other},{gives}->{other[ctx.axis]}{own}", x, slope)
        return back, slopes, None, None
