"""One parameter's maps, and how its per-example gradients are added through them.

Dimension key: b examples, t rows of each, d numbers a sketch, r and c of a parameter's rows and
columns, kr and kc of their sides, n of all its numbers.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from preceptor.ops.sketching import CountSketch, Side, contracted, two_sided
from preceptor.selection.owners import Owners
from preceptor.selection.strange import Chain, common, misplaced, mixed_forms

if TYPE_CHECKING:
    from preceptor.selection.ledger import Ledger

FOLD, FLAT, ROWS, COLUMNS = range(4)
"""What a random number of a parameter is for."""
AT_ONCE = 1 << 20
"""Numbers of sketches of one parameter, before the last map, that exist at once."""


@final
class Entry:
    """One parameter's maps; those of a form are drawn when it is first used in that form."""

    def __init__(
        self,
        ledger: "Ledger",
        number: int,
        name: str,
        parameter: Tensor,
        *,
        vocabulary: bool = False,
        part_of: "tuple[Entry, int] | None" = None,
    ) -> None:
        self.ledger, self.name, self.vocabulary = ledger, name, vocabulary
        self.parameter = parameter.detach()
        self.number, self._part_of = number, part_of
        self._parts: dict[int, Entry] = {}
        self.chain: Chain = ()  # The modules that every use so far was in, where that was noted.
        self.is_whole = False  # Whether autograd's own gradient is taken wherever it is used.
        self.axis = 0  # Along which examples stand in what it meets.
        self.reading = ""  # "each" or "one": for whom a table is read, once that is known.
        self.form = ""  # "matrix", "flat" or "parts", once it was used so.
        self.groups = 1  # Of the convolution whose filters it holds.
        self.is_unbiased = False  # Whether it is a convolution's that has no bias.
        self.has_inputs_first = (
            False  # Whether its rows, not its columns, meet what a layer is given.
        )

    def _keys(self, purpose: int) -> tuple[int, ...]:
        part = () if self._part_of is None else (self._part_of[1],)
        return self.ledger.sketching.seed, self.number, purpose, *part

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """How many numbers the rows' side and the columns' are brought to.

        Of inputs and outputs one side is sketched: both would cost more, for a contraction of each
        is cheaper than a sketch of it, and have the error of two.
        """
        (rows, columns), settings = self._shape, self.ledger.sketching
        k = settings.side
        if self.vocabulary:
            return min(rows, settings.vocabulary), min(columns, settings.width)
        own = rows // self.groups
        worth = k
        if self.groups > 1:
            worth = k // 2  # There are more numbers to be added than products to be taken.
        elif self.is_unbiased:
            worth = 2 * k  # The scales of a norm behind it are read off its gradient.
        if own * columns <= worth * (own + columns):
            return rows, columns  # The gradient is cheaper to make than to sketch.
        # An expert has few tokens of an example: there what is made of them is what costs.
        is_first = self.has_inputs_first if self._part_of is None else rows > columns
        return (min(rows, k), columns) if is_first else (rows, min(columns, k))

    @property
    def is_drawn(self) -> bool:
        """Whether its sides are settled."""
        return "_sizes" in self.__dict__

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.parameter), self.parameter[0].numel()

    @cached_property
    def rows(self) -> Side | CountSketch:
        """The map of the parameter's first axis."""
        drawn = CountSketch.drawn if self.vocabulary else Side.drawn
        keys, device = self._keys(ROWS), self.parameter.device
        return drawn(self._shape[0], self._sizes[0], *keys, device=device)

    @cached_property
    def columns(self) -> Side:
        """The map of all other axes."""
        keys, device = self._keys(COLUMNS), self.parameter.device
        return Side.drawn(self._shape[1], self._sizes[1], *keys, device=device)

    @cached_property
    def fold(self) -> CountSketch:
        """The map of the numbers that both sides leave."""
        count, d = self.rows.k * self.columns.k, self.ledger.sketching.dimension
        return CountSketch.drawn(count, d, *self._keys(FOLD), device=self.parameter.device)

    @cached_property
    def _raw_fold(self) -> CountSketch:
        """The same, of what neither side was brought to scale."""
        return self.fold.scaled(self.rows.scale * self.columns.scale)

    @cached_property
    def buckets(self) -> CountSketch:
        """The map of the parameter's numbers, where no product is taken with it."""
        count, d = self.parameter.numel(), self.ledger.sketching.dimension
        return CountSketch.drawn(count, d, *self._keys(FLAT), device=self.parameter.device)

    def add(self, left: Float[Tensor, "b t kr"], right: Float[Tensor, "b t kc"]) -> None:
        """G = sum_t left_t right_t^T of each example, given through `rows.raw`, `columns.raw`."""
        if self.axis:  # Torch takes products of what lies otherwise one by one.
            left, right = left.contiguous(), right.contiguous()
        step = max(1, AT_ONCE // (self.rows.k * self.columns.k))
        if left.shape[0] <= step:
            self.add_parts([(left, right)])
            return
        self.add_parts(zip(left.split(step), right.split(step), strict=True))

    def add_parts(
        self,
        parts: Iterable[tuple[Tensor, Tensor]],
        scale: Float[Tensor, " r"] | None = None,
    ) -> None:
        """The same, some examples at a time, rows that are left whole brought to `scale`."""
        # There are fewer signs than numbers of all examples.
        fold = self._raw_fold if scale is None else self._raw_fold.scaled(scale)
        self._fold((contracted(*part) for part in parts), fold)

    def add_contracted(self, products: Float[Tensor, "b krkc"]) -> None:
        """The same, given through `contracted`."""
        self._fold([products], self._raw_fold)

    def add_rows(
        self, ids: Int[Tensor, "b t"], right: Float[Tensor, "b t kc"], kept: Tensor | None
    ) -> None:
        """G = sum_t e_id right_t^T of each example, over the positions that are `kept`."""
        assert isinstance(self.rows, CountSketch), "embeddings have buckets"
        bucket, sign = self.rows.bucket, self.rows.sign
        wide = self.ledger.dtype
        signs = sign[ids] if kept is None else sign[ids] * kept
        signed = right.to(wide) * signs.unsqueeze(-1).to(wide)
        example = torch.arange(len(ids), device=ids.device).unsqueeze(1)
        sums = signed.new_zeros(len(ids) * self.rows.k, self.columns.k)
        sums.index_add_(0, (example * self.rows.k + bucket[ids]).flatten(), signed.flatten(0, 1))
        self._fold([sums.view(len(ids), -1)], self._raw_fold)

    def add_matrices(
        self, parts: Iterable[Float[Tensor, "some r c"]], scale: Float[Tensor, " r"] | None = None
    ) -> None:
        """G of each example itself, some at a time, rows that are left whole brought to `scale`."""
        fold = self.fold if scale is None else self.fold.scaled(scale)
        self._fold((two_sided(g, self.rows, self.columns).flatten(1) for g in parts), fold)

    def _fold(self, parts: Iterable[Float[Tensor, "some krkc"]], fold: CountSketch) -> None:
        self._becomes("matrix")
        start = 0
        for part in parts:
            self.ledger.add(self, fold, part, start)
            start += part.shape[0]

    def add_flat(self, gradient: Float[Tensor, "b n"]) -> None:
        """The gradient of each example of a parameter that no product is taken with."""
        self._becomes("flat")
        self.ledger.add(self, self.buckets, gradient)

    def add_bucketed(self, sketch: Float[Tensor, "b d"]) -> None:
        """The same, given through `buckets`."""
        self._becomes("flat")
        for room in self.ledger.rooms(self):
            room[:, : sketch.shape[1]] += sketch

    def by_example(
        self, x: Shaped[Tensor, "*n k"], whose: Owners | None = None
    ) -> Shaped[Tensor, "b t k"]:
        """Rows [b, t] of a tensor; the leading axes go through one example after another.

        Where it is said `whose` rows they are, zeros stand behind those of an example with fewer.

        Raises:
            Strange: the examples' axis does not go through the examples.
        """
        if whose is not None:
            return whose.apart(x)
        examples, x = self.ledger.examples, self.examples_first(x) if self.axis else x
        if examples > 1 and (x.dim() < 2 or x.shape[0] % examples):
            raise misplaced(self, x.shape)
        is_so = x.dim() == 3 and x.shape[0] == examples
        return x if is_so else x.reshape(examples, -1, x.shape[-1])

    def examples_first(self, x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*m"]:
        """A tensor that it met, its examples along the first axis."""
        return x.movedim(self.axis, 0) if 0 < self.axis < x.dim() else x

    def meets(self, x: Tensor, func: Any) -> bool:
        """Whether what it meets in a function has rows of each example, and is no constant."""
        return self.axis > 0 or self.ledger.is_of_each(x, (func, self.name))

    def sums(self, x: Float[Tensor, "*n k"], whose: Owners | None) -> Float[Tensor, "b k"]:
        """Of each example's rows, of which it may be said `whose` they are."""
        if whose is not None:
            return whose.sums(x, self.ledger.dtype)
        return self.by_example(x).sum(dim=1, dtype=self.ledger.dtype)

    def add_whole(self, gradient: Float[Tensor, "*s"]) -> None:
        """The one example's own, in the parameter's shape."""
        if self.parameter.dim() == 2:
            self.add_matrices([gradient.unsqueeze(0).to(self.ledger.dtype)])
        else:
            self.add_flat(gradient.reshape(1, -1))

    def of(self, gradient: Float[Tensor, "*s"]) -> Float[Tensor, " n"] | None:
        """What an example with this gradient adds; None where a part of it was never seen."""
        if self.form == "parts":
            found = gradient.new_zeros(self.ledger.sketching.dimension)
            for number in gradient.flatten(1).any(dim=1).nonzero().flatten().tolist():
                own = self.part(number).of(gradient[number])
                if own is None:
                    return None
                found += own
            return found
        if self.form == "flat":
            return self.buckets(gradient.flatten())
        if self.form == "matrix":
            matrix = gradient.reshape(1, *self._shape)
            return self.fold(two_sided(matrix, self.rows, self.columns).flatten(1)).squeeze(0)
        return None

    @property
    def has_parts(self) -> bool:
        """Whether slices along the first axis can be entries of their own."""
        is_stack = self.parameter.dim() > 2 and not self.vocabulary and self._part_of is None
        return is_stack and self.form in ("", "parts")

    def part(self, number: int) -> "Entry":
        """The entry of a slice along the first axis, as of one of a stack of experts."""
        self._becomes("parts")
        number %= len(self.parameter)
        if number not in self._parts:
            name, own = f"{self.name}[{number}]", self.parameter[number]
            self._parts[number] = Entry(self.ledger, self.number, name, own, part_of=(self, number))
        return self._parts[number]

    @property
    def parts(self) -> Mapping[int, "Entry"]:
        """Those of its slices that were used."""
        return self._parts

    def forget(self) -> None:
        """Be as one that was never used; but for where it was, and whether it is whole."""
        self.form = ""
        self._parts.clear()

    def seen(self) -> None:
        """Note who runs, where somebody asked."""
        running = self.ledger.running
        if self._part_of is not None:
            self._part_of[0].seen()
        elif running is not None:
            self.chain = common(self.chain, tuple(running)) if self.chain else tuple(running)

    def _becomes(self, form: str) -> None:
        if self.form != form:
            if self.form:
                raise mixed_forms(self)
            self.form = form
