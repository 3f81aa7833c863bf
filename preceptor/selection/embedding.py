"""Embeddings: each token's gradient is added to its row's bucket, and no table is made.

Dimension key: b examples, first of them or 1 for all, *n ids of each, w width.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.entry import Entry
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
    if ids.dim() > 1 and len(ids) == 1:
        ids = ids.expand(examples, *ids.shape[1:])
    if ids.dim() < 1 or len(ids) != examples:
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
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (ids,), entry = ctx.saved_tensors, ctx.entry
        flat = ids.reshape(len(ids), -1)
        right = entry.columns.raw(outer[0]).reshape(*flat.shape, -1)
        entry.add_rows(flat, right, None if ctx.padding is None else flat != ctx.padding)
        return None, None, None, None, None
