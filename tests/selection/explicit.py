"""What a ledger must hold: gradients that autograd made one by one, through the same matrices."""

import torch
from torch import Tensor

from preceptor.selection.ledger import Ledger


def expected(ledger: Ledger, gradients: Tensor) -> Tensor:
    """The sketch of flat gradients [b, D], each parameter's rows times P_out, columns times P_in.

    A parameter that the ledger never met has no gradient.
    """
    total = torch.zeros(len(gradients), ledger.sketching.dimension, dtype=gradients.dtype)
    start = 0
    for entry in ledger.entries:
        size = entry.parameter.numel()
        own = gradients[:, start : start + size]
        start += size
        if entry.form == "flat":
            total += entry.buckets(own)
        elif entry.form == "matrix":
            rows, columns = entry.rows.matrix().to(own), entry.columns.matrix().to(own)
            small = rows.T @ own.reshape(len(own), len(entry.parameter), -1) @ columns
            total += entry.fold(small.flatten(1))
        else:
            assert not own.any(), entry.name
    assert start == gradients.shape[1]
    return total


def far(found: Tensor, truth: Tensor) -> float:
    """The largest difference over the largest number."""
    return float((found - truth).abs().max() / truth.abs().max())
