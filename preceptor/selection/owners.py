"""Whose rows they are that were picked out of all examples', as tokens are for an expert.

Nothing is asked of the model: torch's own record of what was done, the graph of its gradients,
holds every index that rows were picked by. It is followed back from a tensor to where rows went
through one example after another, over functions that leave rows where they are.

Dimension key: n rows, b examples, t rows of the example that has most, k numbers a row.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

_FARTHEST = 64
"""Functions that are followed back at most."""


@final
class Owners:
    """The example of each row.

    Args:
        whose: of each row.
        examples: b.
    """

    def __init__(self, whose: Int[Tensor, " n"], examples: int) -> None:
        self.whose, self.examples = whose, examples

    @cached_property
    def _places(self) -> tuple[Int[Tensor, " n"], int]:
        """Where each row stands once all examples have as many, and that number."""
        order = self.whose.argsort(stable=True)
        counts = self.whose.bincount(minlength=self.examples)
        before = (counts.cumsum(0) - counts)[self.whose]
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device)
        most = int(counts.max())
        return self.whose * most + rank - before, most

    def apart(self, x: Float[Tensor, "n *k"]) -> Float[Tensor, "b t k"]:
        """Each example's rows, and zeros behind them."""
        place, most = self._places
        found = x.new_zeros(self.examples * most, x[0].numel())
        return found.index_copy_(0, place, x.flatten(1)).view(self.examples, most, -1)

    def sums(self, x: Float[Tensor, "n *k"], dtype: torch.dtype) -> Float[Tensor, "b k"]:
        """Of each example's rows."""
        found = x.new_zeros(self.examples, x[0].numel(), dtype=dtype)
        return found.index_add_(0, self.whose, x.flatten(1).to(dtype))

    def part(self, rows: slice) -> "Owners":
        """Those of some rows."""
        return Owners(self.whose[rows], self.examples)


def owners(x: Tensor, examples: int) -> Owners | None:
    """Of the rows along the first axis of x.

    Returns:
        None where no index was met on the way back: as far as can be seen, rows go through one
        example after another.
    """
    if examples == 1 or x.grad_fn is None or not x.dim():
        return None
    found = _Trail(examples, x.device).back(x.grad_fn, x.output_nr, x.shape[0])
    return None if found is None else Owners(found, examples)


_Whose = Int[Tensor, " n"] | None


@final
class _Trail:
    """One way back, from a tensor to the functions that it came from."""

    def __init__(self, examples: int, device: torch.device) -> None:
        self._examples, self._device = examples, device
        self._left = _FARTHEST

    def back(self, node: Any, number: int, rows: int) -> _Whose:
        """Whose the rows of output `number` of a function are."""
        self._left -= 1
        if node is None or self._left < 0:
            return None
        known = getattr(node, "owners", None)
        if isinstance(known, Owners):
            return known.whose if len(known.whose) == rows else None
        name = node.name().rpartition("Backward")[0].rpartition("::")[2]
        rule = _RULES.get(name)
        found = None if rule is None else rule(self, node, number, rows)
        return found if found is not None and len(found) == rows else None

    def before(self, node: Any, rows: int, place: int = 0) -> _Whose:
        """Whose the rows of what a function was given are."""
        behind, number = node.next_functions[place]
        return self.back(behind, number, rows)

    def or_in_turn(self, node: Any, rows: int) -> _Whose:
        """The same; one example's after another's where nothing else is seen."""
        found = self.before(node, rows)
        if found is None and rows % self._examples == 0:
            in_turn = torch.arange(self._examples, device=self._device)
            return in_turn.repeat_interleave(rows // self._examples)
        return found


def _elementwise(trail: _Trail, node: Any, number: int, rows: int) -> _Whose:
    del number
    for place in range(len(node.next_functions)):
        found = trail.before(node, rows, place)
        if found is not None:
            return found
    return None


def _indexed(trail: _Trail, node: Any, number: int, rows: int) -> _Whose:
    del number
    sizes, index = node._saved_self_sym_sizes, node._saved_indices[0]
    if index is None:
        return trail.before(node, rows)
    before = trail.or_in_turn(node, sizes[0])
    if before is None or (index.dtype != torch.bool and index.dim() != 1):
        return None
    if index.dtype == torch.bool:
        index = index.nonzero()[:, 0]
    return before[index]


def _selected(trail: _Trail, node: Any, number: int, rows: int) -> _Whose:
    del number
    if node._saved_dim != 0:
        return trail.before(node, rows)
    index, before = node._saved_index, trail.or_in_turn(node, node._saved_self_sym_sizes[0])
    return None if before is None else before[index]


def _sliced(trail: _Trail, node: Any, number: int, rows: int) -> _Whose:
    del number
    if node._saved_dim != 0:
        return trail.before(node, rows)
    before = trail.or_in_turn(node, node._saved_self_sym_sizes[0])
    if before is None:
        return None
    return before[node._saved_start : node._saved_end : node._saved_step]


def _split(trail: _Trail, node: Any, number: int, rows: int) -> _Whose:
    if node._saved_dim != 0:
        return trail.before(node, rows)
    before = trail.or_in_turn(node, node._saved_self_sym_sizes[0])
    if before is None:
        return None
    sizes = getattr(node, "_saved_split_sizes", None) or node._saved_split_size
    return before.split(sizes if isinstance(sizes, int) else list(sizes))[number]


def _joined(trail: _Trail, node: Any, number: int, rows: int) -> _Whose:
    del number
    if node._saved_dim != 0:
        return trail.before(node, rows)
    # How long parts along the first axis are is noted by those alone that know whose they are;
    # others may have no rows at all, as of an expert without tokens.
    known = [getattr(behind, "owners", None) for behind, _ in node.next_functions]
    parts = [each.whose for each in known if isinstance(each, Owners)]
    return torch.cat(parts) if parts and sum(map(len, parts)) == rows else None


def _viewed(trail: _Trail, node: Any, number: int, rows: int) -> _Whose:
    del number
    sizes: Sequence[int] = node._saved_self_sym_sizes
    if not sizes or not sizes[0] or rows % sizes[0]:
        return None
    before = trail.before(node, sizes[0])
    # Rows that an example's row was cut into stand behind one another.
    return None if before is None else before.repeat_interleave(rows // sizes[0])


def _unsqueezed(trail: _Trail, node: Any, number: int, rows: int) -> _Whose:
    del number
    return trail.before(node, rows) if node._saved_dim != 0 else None


_ELEMENTWISE = (
    *("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Pow", "Exp", "Clamp", "ClampMin", "ClampMax"),
    *("Silu", "Gelu", "Relu", "Sigmoid", "Tanh", "Softplus", "Clone", "ToCopy", "Expand", "Alias"),
)
_RULES: dict[str, Callable[[_Trail, Any, int, int], _Whose]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    "Index": _indexed,
    "IndexSelect": _selected,
    "Slice": _sliced,
    "Split": _split,
    "SplitWithSizes": _split,
    "Cat": _joined,
    "View": _viewed,
    "UnsafeView": _viewed,
    "Unsqueeze": _unsqueezed,
}
