"""A small honest language teacher and rows of text that the tests of token caches share."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from preceptor.data.collate import Example, collated
from preceptor.teachers.base import Teacher
from preceptor.teachers.tokens.manifest import Identity
from preceptor.types import Batch, Head, Needs, Projected, Signal

VOCABULARY = 97

IDENTITY = Identity("weights", "tokenizer", "template", "rows", VOCABULARY)


class Reader(Teacher):
    """Shows hidden states that depend on all tokens so far, and a steep head; notes who asked."""

    def __init__(self, vocabulary: int = VOCABULARY, steep: float = 6.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(vocabulary, 8, generator=generator)
        self.weight = torch.randn(vocabulary, 8, generator=generator) * steep
        self.asked: list[int] = []

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    def signal(self, batch: Batch) -> Signal:
        self.asked += batch.ids.tolist()
        assert not isinstance(batch.inputs, Tensor)
        hidden = self.table[batch.inputs["input_ids"]].cumsum(dim=1)
        counts = torch.arange(1, hidden.shape[1] + 1).view(1, -1, 1)
        return Signal(Projected(hidden / counts.sqrt(), Head(self.weight)))


def example(row: int, vocabulary: int = VOCABULARY) -> Example:
    """Row's tokens, a pure function of its number: 5 to 12, the first three a prompt."""
    generator = np.random.default_rng(row)
    ids = generator.integers(0, vocabulary, 5 + row % 8)
    return Example(ids, np.arange(len(ids)) >= 3, row)


def batch_of(rows: Sequence[int], length: int | None = None) -> Batch:
    """These rows, padded on the right."""
    return collated([example(row) for row in rows], pad=0, length=length)


def batches(count: int = 40) -> Iterator[Batch]:
    """Rows 0 to count - 1, four at a time."""
    for start in range(0, count, 4):
        yield batch_of(range(start, min(start + 4, count)))
