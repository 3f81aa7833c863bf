"""Where the sketches of every parameter's per-example gradients are added up.

A layer's gradient is sketched from the side of its inputs, S = G P_in, that of an embedding or a
head from both, S = P_out^T G P_in, and all numbers of all parameters go through one last map to d.
All of it is linear, so a parameter that is used twice (a tied embedding, a shared layer) simply
adds twice.

Dimension key: b examples, d numbers a sketch.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, final

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.fields import Count, check_ranges
from preceptor.ops.sketching import CountSketch, turned
from preceptor.selection.channels import Channels
from preceptor.selection.entry import Entry
from preceptor.selection.fusions import Fusions
from preceptor.selection.probe import Kind
from preceptor.selection.rows import Details
from preceptor.selection.strange import Strange
from preceptor.selection.sums import Sums


@final
@dataclass(frozen=True)
class Sketching:
    """How gradients become few numbers.

    Args:
        dimension: d, numbers a sketch.
        seed: of every random sign.
        side: k, numbers that what a layer is given is brought to, a convolution's patches too; its
            outputs are left whole. Where the gradient is cheaper to make than to sketch,
            r c <= k (r + c), both are.
        vocabulary: numbers that the side of an embedding's or a head's classes is brought to: more,
            because one such matrix may hold most of the gradient; it costs a sum, not a product.
        width: numbers that the other side of such a matrix is brought to, for the same reason.
    """

    dimension: Count = 512
    seed: Annotated[int, Ge(0)] = 0
    side: Count = 16
    vocabulary: Count = 512
    width: Count = 48

    def __post_init__(self) -> None:
        check_ranges(self)

    def details(self, kind: Kind, bfloat16: bool) -> Details:
        """What a probe says of features that are sketched so."""
        products = "bfloat16" if bfloat16 else "as the weights"
        others: dict[str, str | int | float] = {
            name: getattr(self, name) for name in ("side", "vocabulary", "width")
        }
        return Details(kind, self.dimension, self.seed, {**others, "products": products})


@final
class Ledger:
    """Every parameter's entry, and the sum of their sketches for the batch at hand.

    Args:
        named: the parameters whose gradients count; a shared one is there once.
        sketching: how they are sketched.
        vocabularies: those of them whose first axis is one of classes.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        sketching: Sketching,
        vocabularies: Iterable[Tensor] = (),
    ) -> None:
        self.sketching = sketching
        wide = {id(parameter) for parameter in vocabularies}
        self._entries = {
            id(parameter): Entry(self, number, name, parameter, vocabulary=id(parameter) in wide)
            for number, (name, parameter) in enumerate(named.items())
        }
        self._held = tuple(named.values())  # So that no id is given to another tensor.
        self.size = sum(parameter.numel() for parameter in named.values())
        self.examples = 0
        self.fusions, self.channels = Fusions(), Channels()
        self.is_used = False  # Whether sketches were given out that are to go with later ones.
        self.running: list[str] | None = None  # The names of modules that run, if noted.
        self._answers: dict[tuple[Hashable, int], bool] = {}
        self._asked: Counter[Hashable] = Counter()
        self.is_shared = False  # Whether to note each parameter's part of the sum.
        self._room = torch.empty(0)  # Kept from pass to pass.
        self._shares: Tensor | None = None
        self._sums = Sums()

    def begin(self, examples: int) -> None:
        """A batch of so many examples comes next."""
        first = self._held[0]
        self.dtype = torch.promote_types(first.dtype, torch.float32)
        self.examples = examples
        self.fusions.begin()
        self._asked.clear()
        shape = (examples, 2 * self.sketching.dimension)  # As `CountSketch.add` asks for.
        held = self._room
        if held.shape == shape and held.dtype == self.dtype and held.device == first.device:
            held.zero_()
        else:
            self._room = torch.zeros(shape, dtype=self.dtype, device=first.device)
        self._sums.forget()
        self._shares = self._room.new_zeros(len(self._held), *shape) if self.is_shared else None
        # Gives a layer a backward pass also where nothing before it has a gradient.
        self.anchor = torch.zeros((), device=first.device, requires_grad=True)

    def settle(self, found: Strange) -> None:
        """After something strange, before the batch is begun anew.

        Raises:
            Strange: sketches that were given out have maps that would change.
        """
        if found.entry is not None:
            if self.is_used or found.entry.is_whole:
                raise found
            found.entry.is_whole = True
        if not self.is_used:
            self._answers.clear()
            for entry in self.entries:
                entry.forget()

    def is_of_each(self, x: Tensor, where: Hashable) -> bool:
        """Whether a tensor has rows of each example, and is no constant.

        What the first pass found of one without a gradient, and the proof confirmed, holds from
        then on: a table may have as many rows as a later batch has examples.

        Args:
            x: the tensor.
            where: it was met, the same in every pass.
        """
        if x.requires_grad or self.examples == 1:
            return True
        if x.dim() < 2 or x.shape[0] == 1:
            return False
        key = where, self._asked[where]
        self._asked[where] += 1
        return self._answers.setdefault(key, x.shape[0] % self.examples == 0)

    @contextmanager
    def only(self, example: int) -> Iterator[None]:
        """In the block the batch is one of its examples, and what is added is that one's."""
        held = self.examples, self._room, self._shares
        one = slice(example, example + 1)
        self.examples, self._room = 1, self._room[one]
        self._shares = None if self._shares is None else self._shares[:, one]
        try:
            yield
        finally:
            self.examples, self._room, self._shares = held

    def add(
        self, entry: Entry, sketch: CountSketch, x: Float[Tensor, "some n"], start: int = 0
    ) -> None:
        """Add a map of a parameter's numbers, of the examples from `start` on."""
        is_all = x.shape[0] == self.examples
        if is_all and self._shares is None:
            self._sums.add(sketch, x, self._room)
            return
        for room in self.rooms(entry):
            self._sums.add(sketch, x, room if is_all else room[start : start + x.shape[0]])

    def rooms(self, entry: Entry) -> Sequence[Float[Tensor, "b two_d"]]:
        """What a parameter's sketch is added to."""
        if self._shares is None:
            return (self._room,)
        return self._room, self._shares[entry.number]

    def share(self, entry: Entry) -> Float[Tensor, "b d"]:
        """What one parameter added to the sum, where that was noted."""
        assert self._shares is not None, "parts are noted where they are asked for"
        self._sums.finish()
        return turned(self._shares[entry.number])

    def sketches(self) -> Float[Tensor, "b d"]:
        """The sum of all parameters' sketches."""
        self._sums.finish()
        return turned(self._room)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every parameter's, in their order."""
        return tuple(self._entries.values())

    def find(self, parameter: Tensor | None) -> Entry | None:
        """A parameter's entry; None where its gradient does not count."""
        return self._entries.get(id(parameter))

    def spread(self, x: Tensor) -> Tensor:
        """What all examples share, [1, ...], once for each of them; anything else as it is."""
        is_shared = x.dim() > 1 and x.shape[0] == 1 and not x.requires_grad
        return x.expand(self.examples, *x.shape[1:]) if is_shared else x
