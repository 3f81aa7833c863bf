"""Embeddings: each token's gradient is added to its row's bucket, and no table is made.

Dimension key: b examples, first of them or 1 for all, *n ids of each, w width. Where an entry's
examples stand along a later axis, they do so here.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.entry import Entry
from preceptor.selection.first_order import first_order
from preceptor.selection.strange import misplaced


def embedding(
    ids: Int[Tensor, "first *n"], weight: Tensor, entry: Entry, padding: int | None = None
) -> Float[Tensor, "b *n w"]:
    """The rows of `weight` at `ids`; the row `padding` has no gradient, as in torch.

    Raises:
        Strange: the first axis of `ids` is not the examples'.
    """
    examples = entry.ledger.examples
    if examples == 1:
        found = _Embedding.apply(entry.ledger.anchor, ids.reshape(1, -1), weight, entry, padding)
        assert isinstance(found, Tensor)
        return found.view(*ids.shape, weight.shape[1])
    if ids.dim() > 1 and len(ids) == 1 and not entry.axis:
        ids = ids.expand(examples, *ids.shape[1:])
    if ids.dim() < 1 or len(entry.examples_first(ids)) != examples:
        raise misplaced(entry, ids.shape)
    found = _Embedding.apply(entry.ledger.anchor, ids, weight, entry, padding)
    assert isinstance(found, Tensor)
    return found


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        ids: Tensor,
        weight: Tensor,
        entry: Entry,
        padding: int | None,
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.entry, ctx.padding = entry, padding
        return F.embedding(ids, weight)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (ids,), entry = ctx.saved_tensors, ctx.entry
        flat = entry.by_example(ids.unsqueeze(-1)).squeeze(-1)
        right = entry.by_example(entry.columns.raw(outer[0]))
        kept = None if ctx.padding is None else flat != ctx.padding
        if entry.vocabulary:
            entry.add_rows(flat, right, kept)
        else:
            _add_matrix(entry, flat, right, kept)
        return None, None, None, None, None


def is_table(entry: Entry) -> bool:
    """Whether rows of it can be added to its sketch; else its gradient has to be made."""
    rows, few = len(entry.parameter), entry.ledger.sketching.vocabulary
    is_open = not entry.is_drawn or (entry.rows.k == rows and rows <= few)
    return entry.vocabulary or (entry.parameter.dim() == 2 and is_open)


def _add_matrix(
    entry: Entry, ids: Int[Tensor, "b t"], right: Float[Tensor, "b t kc"], kept: Tensor | None
) -> None:
    """The same of a matrix that was in a product before: its few rows have no buckets."""
    left = F.one_hot(ids, len(entry.parameter))
    left = left if kept is None else left * kept.unsqueeze(-1)
    entry.add(left.to(right.dtype), right)
