"""Outputs, signals and contexts made of taps alone, for the tests of feature methods."""

from collections.abc import Mapping

import torch
from torch import Tensor

from preceptor.types import Batch, Context, Outputs, Signal, Term

PAIR = (("s", "t"),)
"""One pair: the student's tap "s" and the teacher's "t"."""


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def outputs(taps: Mapping[str, Tensor]) -> Outputs:
    return Outputs(torch.zeros(len(next(iter(taps.values()))), 3), taps)


def signal(taps: Mapping[str, Tensor]) -> Signal:
    return Signal(None, taps)


def context(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Context:
    labels = torch.zeros(0, dtype=torch.int64)
    return Context(outputs(student), signal(teacher), 3, 10, labels)


def plain_batch(size: int, mask: Tensor | None = None) -> Batch:
    return Batch(torch.zeros(size, 1), mask=mask)


def example_means(term: Term, batch: Batch) -> Tensor:
    """A term's number of each example: its own, or the mean over the tokens that count."""
    values, mask = term.values, batch.mask("all")
    if term.per == "example":
        assert mask.ndim == 1
        return values
    return torch.where(mask, values, 0.0).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
