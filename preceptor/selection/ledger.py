"""Where the sketches of every parameter's per-example gradients are added up.

A matrix is sketched from both sides, S = P_out^T G P_in, and all numbers of all parameters go
through one last map to d. All of it is linear, so a parameter that is used twice (a tied embedding,
a shared layer) simply adds twice.

Dimension key: b examples, t rows of each, d numbers a sketch, r and c of a parameter's rows and
columns, kr and kc of their sides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, final

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.fields import Count, check_ranges
from preceptor.ops.sketching import CountSketch, Side, contracted, two_sided
from preceptor.selection.probe import Kind
from preceptor.selection.rows import Details

_FOLD, _FLAT, _ROWS, _COLUMNS = range(4)
"""What a random number of a parameter is for."""
_FEWEST = 16
"""Filters of random signs, however few the layer's own are."""
AT_ONCE = 1 << 19
"""Numbers of sketches of one parameter, before the last map, that exist at once."""


@final
@dataclass(frozen=True)
class Sketching:
    """How gradients become few numbers.

    Args:
        dimension: d, numbers a sketch.
        seed: of every random sign.
        side: k, numbers that a matrix' side is brought to. A matrix whose gradient is cheaper to
            make than to sketch, r c <= k (r + c) + k^2, is left whole.
        filters: the same of a convolution: its patches are brought to half as many numbers as it
            has filters, and at most this many. Fewer layers share the error: more numbers.
        vocabulary: numbers that the side of an embedding's or a head's classes is brought to: more,
            because one such matrix may hold most of the gradient; it costs a sum, not a product.
    """

    dimension: Count = 512
    seed: Annotated[int, Ge(0)] = 0
    side: Count = 48
    filters: Count = 64
    vocabulary: Count = 512

    def __post_init__(self) -> None:
        check_ranges(self)

    def details(self, kind: Kind, bfloat16: bool) -> Details:
        """What a probe says of features that are sketched so."""
        products = "bfloat16" if bfloat16 else "as the weights"
        others: dict[str, str | int | float] = {
            name: getattr(self, name) for name in ("side", "filters", "vocabulary")
        }
        return Details(kind, self.dimension, self.seed, {**others, "products": products})


@final
class Entry:
    """One parameter's maps; those of a form are drawn when it is first used in that form."""

    def __init__(
        self, ledger: "Ledger", number: int, name: str, parameter: Tensor, *, vocabulary: bool
    ) -> None:
        self.ledger, self.name, self.vocabulary = ledger, name, vocabulary
        self.parameter = parameter.detach()
        self._number = number
        self.form = ""  # "matrix" or "flat", once it was used so.

    def _keys(self, purpose: int) -> tuple[int, int, int]:
        return self.ledger.sketching.seed, self._number, purpose

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """How many numbers the rows' side and the columns' are brought to."""
        (rows, columns), settings = self._shape, self.ledger.sketching
        k = settings.side
        if self.vocabulary:
            return min(rows, settings.vocabulary), min(columns, k)
        if self.parameter.dim() > 2:
            # A filter of random signs costs what one of the layer's own does.
            half = min(settings.filters, max(_FEWEST, rows // 2))
            return min(rows, settings.filters), columns if columns <= half else half
        # Where the gradient is cheaper to make than to sketch, it is made.
        is_whole = rows * columns <= k * (rows + columns) + k * k
        return (rows, columns) if is_whole else (min(rows, k), min(columns, k))

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.parameter), self.parameter[0].numel()

    @cached_property
    def rows(self) -> Side | CountSketch:
        """The map of the parameter's first axis."""
        drawn = CountSketch.drawn if self.vocabulary else Side.drawn
        keys, device = self._keys(_ROWS), self.parameter.device
        return drawn(self._shape[0], self._sizes[0], *keys, device=device)

    @cached_property
    def columns(self) -> Side:
        """The map of all other axes."""
        keys, device = self._keys(_COLUMNS), self.parameter.device
        return Side.drawn(self._shape[1], self._sizes[1], *keys, device=device)

    @cached_property
    def fold(self) -> CountSketch:
        """The map of the numbers of both sides."""
        count, d = self.rows.k * self.columns.k, self.ledger.sketching.dimension
        return CountSketch.drawn(count, d, *self._keys(_FOLD), device=self.parameter.device)

    @cached_property
    def buckets(self) -> CountSketch:
        """The map of the parameter's numbers, where no product is taken with it."""
        count, d = self.parameter.numel(), self.ledger.sketching.dimension
        return CountSketch.drawn(count, d, *self._keys(_FLAT), device=self.parameter.device)

    def add(self, left: Float[Tensor, "b t kr"], right: Float[Tensor, "b t kc"]) -> None:
        """G = sum_t left_t right_t^T of each example, given through `rows.raw`, `columns.raw`."""
        step = max(1, AT_ONCE // (self.rows.k * self.columns.k))
        self.add_parts(zip(left.split(step), right.split(step), strict=True))

    def add_parts(self, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The same, some examples at a time."""
        scale = self.rows.scale * self.columns.scale
        self._sum("matrix", torch.cat([self.fold(contracted(*part, scale)) for part in parts]))

    def add_rows(
        self, ids: Int[Tensor, "b t"], right: Float[Tensor, "b t kc"], kept: Tensor | None
    ) -> None:
        """G = sum_t e_id right_t^T of each example, over the positions that are `kept`."""
        bucket, sign = self._places
        total = self.ledger.total
        signs = sign[ids] if kept is None else sign[ids] * kept
        signed = right.to(total.dtype) * signs.unsqueeze(-1).to(total.dtype)
        example = torch.arange(len(ids), device=ids.device).unsqueeze(1)
        room = total.new_zeros(len(ids) * self.rows.k, self.columns.k)
        room.index_add_(0, (example * self.rows.k + bucket[ids]).flatten(), signed.flatten(0, 1))
        scale = self.rows.scale * self.columns.scale
        self._sum("matrix", self.fold(room.mul_(scale).view(len(ids), -1)))

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.rows, CountSketch), "embeddings have buckets"
        return self.rows.places()

    def add_matrices(self, parts: Iterable[Float[Tensor, "some r c"]]) -> None:
        """G of each example itself, some examples at a time."""
        each = [self.fold(two_sided(g, self.rows, self.columns).flatten(1)) for g in parts]
        self._sum("matrix", torch.cat(each))

    def add_flat(self, gradient: Float[Tensor, "b n"]) -> None:
        """The gradient of each example of a parameter that no product is taken with."""
        self.add_bucketed(self.buckets(gradient.to(self.ledger.total.dtype)))

    def add_bucketed(self, sketch: Float[Tensor, "b d"]) -> None:
        """The same, given through `buckets`."""
        self._sum("flat", sketch)

    def _sum(self, form: str, sketch: Float[Tensor, "b d"]) -> None:
        if self.form not in ("", form):
            raise ModelError(
                f"the parameter {self.name} is used in products and outside of them",
                "the two parts of its gradient are sketched by different maps",
                "Use exact features for this model.",
            )
        self.form = form
        self.ledger.total += sketch


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

    def begin(self, examples: int) -> None:
        """A batch of so many examples comes next."""
        first = self._held[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        self.examples = examples
        self.total = torch.zeros(
            examples, self.sketching.dimension, dtype=dtype, device=first.device
        )
        # Gives a layer a backward pass also where nothing before it has a gradient.
        self.anchor = torch.zeros((), device=first.device, requires_grad=True)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every parameter's, in their order."""
        return tuple(self._entries.values())

    def find(self, parameter: Tensor | None) -> Entry | None:
        """A parameter's entry; None where its gradient does not count."""
        return self._entries.get(id(parameter))

    def by_example(self, x: Float[Tensor, "*n k"]) -> Float[Tensor, "b t k"]:
        """Rows [b, t] of a tensor whose leading axes go through one example after another.

        Raises:
            ModelError: the first axis does not.
        """
        if x.dim() < 2 or len(x) % self.examples:
            raise ModelError(
                f"a layer was given a tensor of shape {list(x.shape)} in a batch of "
                f"{self.examples} examples",
                "which rows belong to which example is read from the first axis",
                "Use exact features for this model.",
            )
        return x.reshape(self.examples, -1, x.shape[-1])

    def spread(self, x: Tensor) -> Tensor:
        """What all examples share, [1, ...], once for each of them; anything else as it is."""
        return x.expand(self.examples, *x.shape[1:]) if x.dim() > 1 and len(x) == 1 else x
