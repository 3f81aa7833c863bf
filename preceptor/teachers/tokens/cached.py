"""A token cache as a teacher.

Dimension key: b examples, t tokens, n positions, v classes, k entries.
"""

from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from preceptor.teachers.base import Teacher
from preceptor.teachers.tokens.passages import Passages
from preceptor.teachers.tokens.store import TokenStore
from preceptor.types import Batch, Dense, Distribution, Needs, Sampled, Signal, TopK


@final
class CachedTokens(Teacher):
    """The answers of a teacher that is not there: found by row of text and offset in it.

    So shuffling, padding, packing and the number of processes change nothing. What is not scored
    gets a distribution that nobody reads: all mass in the tail, one draw of class 0, or even.

    A row that the cache does not hold, or holds with other tokens, raises `NeedsError`.
    """

    def __init__(self, store: TokenStore) -> None:
        self.store = store

    def offers(self) -> Needs:
        """Bins or draws at the cache's temperature, or raw logits."""
        return self.store.manifest.codec.offers()

    def signal(self, batch: Batch) -> Signal:
        """The stored answers, [b, t] of them."""
        passages = Passages.of(batch)
        found = self.store.read(passages)
        shape = tuple(batch.labels.shape)
        return Signal(spread(found, passages.index, shape, batch.labels.device))


def spread(
    found: Distribution,
    index: Int[Tensor, " n"],
    shape: tuple[int, ...],
    device: torch.device,
) -> TopK | Sampled | Dense:
    """A distribution over flat positions as one over [b, t], harmless where there is none.

    Args:
        found: at n positions.
        index: where they stand in the flattened [b, t].
        shape: (b, t).
        device: where the answer is wanted.
    """

    def wide(values: Tensor, fill: float) -> Tensor:
        room = values.new_full((shape[0] * shape[1], *values.shape[1:]), fill)
        return room.index_copy_(0, index, values).unflatten(0, shape).to(device)

    if isinstance(found, TopK):
        ids, log_p, tail = (
            wide(found.ids, -1),
            wide(found.log_p, -torch.inf),
            wide(found.log_tail, 0.0),
        )
        return TopK(ids, log_p, tail, found.temperature, found.classes)
    if isinstance(found, Sampled):
        ids, counts, entropy = wide(found.ids, -1), wide(found.counts, 0), wide(found.entropy, 0.0)
        none = (counts.sum(dim=-1, keepdim=True) == 0) & (
            torch.arange(counts.shape[-1], device=device) == 0
        )
        ids, counts = ids.masked_fill(none, 0), counts.masked_fill(none, 1)
        return Sampled(ids, counts, entropy, found.temperature, found.classes)
    assert isinstance(found, Dense)
    return Dense(wide(found.logits, 0.0), found.temperature)
