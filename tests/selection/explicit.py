"""What a ledger must hold: gradients that autograd made one by one, through the same matrices."""

import torch
from torch import Tensor

from preceptor.selection.entry import Entry
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
        total += _expected(entry, own)
    assert start == gradients.shape[1]
    return total


def _expected(entry: Entry, own: Tensor) -> Tensor:
    """The sketch of one parameter's, [b, n]."""
    if entry.form == "flat":
        return entry.buckets(own)
    if entry.form == "matrix":
        rows, columns = entry.rows.matrix().to(own), entry.columns.matrix().to(own)
        small = rows.T @ own.reshape(len(own), len(entry.parameter), -1) @ columns
        return entry.fold(small.flatten(1))
    total = own.new_zeros(len(own), entry.ledger.sketching.dimension)
    if entry.form == "parts":
        for number, each in enumerate(own.unflatten(1, (len(entry.parameter), -1)).unbind(1)):
            total += _expected(entry.part(number), each)
    else:
        assert not own.any(), entry.name
    return total


def far(found: Tensor, truth: Tensor) -> float:
    """The largest difference over the largest number."""
    return float((found - truth).abs().max() / truth.abs().max())
