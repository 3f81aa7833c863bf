"""Which convolutions have a batch norm behind them that can be taken with them."""

import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple, final

from torch import Tensor

from preceptor.errors import ModelError
from preceptor.selection.entry import Entry


class Still(NamedTuple):
    """A batch norm whose statistics stand still.

    Attributes:
        mean, variance: [o].
        eps: what is added to the variance.
        scale, shift: numbers [o] and entry.
    """

    mean: Tensor
    variance: Tensor
    eps: float
    scale: tuple[Tensor, Entry]
    shift: tuple[Tensor, Entry]


@final
class Fusions:
    """Which convolutions gave what they gave to a batch norm, in the passes so far.

    Whether nobody else reads it cannot be seen, nor whether somebody writes to what a norm gave; so
    `is_on` is set where sketches were compared.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._behind: dict[int, Still] = {}
        self._met: set[int] = set()
        self._shared: set[int] = set()  # Those used more than once in a pass.
        self._open: set[int] = set()  # Those taken as one whose norm was not asked for yet.
        self._last: tuple[Any, Entry, bool] | None = None

    def __bool__(self) -> bool:
        return bool(self._behind)

    def leave(self, found: Iterable[Entry]) -> bool:
        """Leave those apart that one of these belongs to; whether there are any."""
        left = {id(entry) for entry in found}
        held = len(self._behind)
        self._behind = {
            number: still
            for number, still in self._behind.items()
            if id(still.scale[1]) not in left and id(still.shift[1]) not in left
        }
        return len(self._behind) < held

    def follow(self, other: "Fusions") -> None:
        """Be on where those of a copy are, for what it kept."""
        self.is_on = other.is_on
        self._behind = {n: still for n, still in self._behind.items() if n in other._behind}

    def begin(self) -> None:
        """A pass comes next."""
        self._met.clear()
        self._open.clear()
        self._last = None

    def behind(self, entry: Entry) -> Still | None:
        """The norm that a convolution is to be made one with."""
        return self._behind.get(entry.number) if self.is_on else None

    def gave(self, entry: Entry, found: Tensor, *, is_one: bool) -> None:
        """Note what a convolution gave, `is_one` with its norm or not.

        Raises:
            ModelError: it is one with its norm, and used again.
        """
        if entry.number in self._met:
            if self.behind(entry) is not None:
                raise _unlike(entry)
            self._shared.add(entry.number)
            self._behind.pop(entry.number, None)
        self._met.add(entry.number)
        self._last = weakref.ref(found), entry, is_one
        if is_one:
            self._open.add(entry.number)

    def takes(self, x: Tensor, still: Still) -> bool:
        """Whether the norm of what is given was taken already; noted where it could have been.

        Raises:
            ModelError: it was another norm that was taken.
        """
        if self._last is None or self._last[0]() is not x:
            return False
        _, entry, is_one = self._last
        if is_one:
            if self._behind[entry.number].scale[1] is not still.scale[1]:
                raise _unlike(entry)
            self._open.discard(entry.number)
        elif not self.is_on and entry.number not in self._shared:
            self._behind[entry.number] = still
        return is_one

    def end(self) -> None:
        """The pass is over.

        Raises:
            ModelError: a norm that was taken was not asked for.
        """
        if self._open:
            raise _unlike(self._behind[next(iter(self._open))].scale[1])


def _unlike(entry: Entry) -> ModelError:
    return ModelError(
        f"the batch norm of {entry.name} was taken with a convolution",
        "in this pass another stands behind it than in the first one",
        "Use exact features for this model.",
    )
