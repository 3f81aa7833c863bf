"""From unreduced terms to sums, counts and means: the one place where a mask is applied."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from preceptor.errors import RecipeError
from preceptor.types import Batch, Over, Per, Term, Terms


def total(term: Term, batch: Batch) -> Float[Tensor, ""]:
    """The sum of a term's values over what counts; masked values never enter, be they NaN."""
    if term.per == "batch":
        return term.values
    if term.over == "all" and batch.fields()["mask"] is None:
        return term.values.sum()
    mask = batch.mask(term.over)
    if term.per == "example":
        mask = by_example(mask)
    return torch.where(mask, term.values, 0.0).sum()


def count(over: Over, per: Per, batch: Batch) -> int:
    """How many values of a term count in a batch."""
    if per == "batch":
        return 1
    mask = batch.mask(over)
    return int((by_example(mask) if per == "example" else mask).sum())


def by_example(mask: Bool[Tensor, "b *t"]) -> Bool[Tensor, " b"]:
    """Which examples have a position that counts."""
    return mask.reshape(mask.shape[0], -1).any(dim=-1)


def mean_loss(terms: Terms, batch: Batch) -> Float[Tensor, ""]:
    """The weighted sum of the terms' means over one whole batch."""
    if any(term.auto is not None for term in terms.values()):
        raise RecipeError(
            "a term with `weight: auto` was reduced",
            "such a weight is found by the loop in its first steps",
            "Train with `fit`, or give the weight as a number.",
        )
    parts = [
        term.weight * total(term, batch) / max(1, count(term.over, term.per, batch))
        for term in terms.values()
    ]
    return torch.stack(parts).sum()
