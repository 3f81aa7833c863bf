"""Each text to whoever knows it: rows of the data to a cache, new text to a live teacher.

Dimension key: b examples, t tokens, n positions, v classes, k entries.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import torch
import torch.distributed as dist
from jaxtyping import Bool, Int
from torch import Tensor, nn

from preceptor.errors import NeedsError
from preceptor.ops.projection import slice_length
from preceptor.teachers.base import Teacher
from preceptor.teachers.tokens.cached import CachedTokens, spread
from preceptor.teachers.tokens.codecs import TopKCodec
from preceptor.teachers.tokens.passages import Passages
from preceptor.teachers.tokens.selection import largest
from preceptor.types import Batch, Needs, Outputs, Signal, TopK, map_tensors


@final
class Routed(Teacher):
    """A top-k cache for the rows of the data, a live teacher for what was written meanwhile.

    Which of them answers is said position by position: `extra["row"]` is below 0 where a text is
    no row. The live teacher's answers are cut to the cache's k at its temperature, so that all
    positions have the same bins; only sequences with new text go through it.

    Args:
        cache: of the k largest.
        live: the teacher that wrote the cache.

    Raises:
        NeedsError: the cache keeps something else, or the live teacher does not know every class.
    """

    def __init__(self, cache: CachedTokens, live: Teacher) -> None:
        codec = cache.store.manifest.codec
        if not isinstance(codec, TopKCodec):
            raise NeedsError(
                f"a {codec.kind} cache beside a live teacher",
                "both are read as the largest probabilities and the mass of the rest",
                "Write a top-k cache.",
            )
        if "probabilities" not in live.offers().kinds:
            raise NeedsError(
                f"{type(live).__name__} beside a top-k cache",
                "it does not know the probability of every class",
                "Use a model as the live teacher.",
            )
        self.cache, self.live, self._codec = cache, live, codec

    def offers(self) -> Needs:
        """Bins at the cache's temperature."""
        return self._codec.offers()

    def signal(self, batch: Batch) -> Signal:
        """Each position's bins, [b, t, k]."""
        scored = batch.mask("all")
        new = scored & (batch.extra["row"] < 0)
        stored = Batch(**{**batch.fields(), "mask": scored & ~new})
        passages = Passages.of(stored)
        found = self.cache.store.read(passages)
        assert isinstance(found, TopK)
        both = _joined(found, self._asked(batch, new))
        written = new.flatten().nonzero().squeeze(1).cpu()
        index = torch.cat([passages.index, written])
        return Signal(spread(both, index, tuple(new.shape), scored.device))

    def _asked(self, batch: Batch, new: Bool[Tensor, "b t"]) -> TopK:
        """The live teacher's answers to new text, flat, on the CPU."""
        classes = self.cache.store.manifest.identity.vocabulary
        width = min(self._codec.k, classes)
        none, tails = torch.empty(0, width), torch.empty(0)
        parts = [TopK(none.long(), none, tails, self._codec.temperature, classes)]
        which = new.any(dim=1)
        # Sharded over processes, a teacher is called by all of them or by none.
        if dist.is_initialized() and not which.any():
            which[0] = True
        if which.any():
            rows = which.nonzero().squeeze(1)
            given = self.live.signal(_some(batch, rows)).distribution
            for places in new[which].flatten().nonzero().squeeze(1).split(slice_length(classes)):
                parts.append(largest(given.at(places), self._codec.k, self._codec.temperature))
        return _joined(*parts)

    def learn(self, student: nn.Module, seen: Sequence[tuple[Batch, Outputs]]) -> None:
        """The live teacher moves; a cache is of one that stands still."""
        self.live.learn(student, seen)

    def to(self, device: Any) -> "Routed":
        """The live teacher moved to a device."""
        return Routed(self.cache, self.live.to(device))

    def state(self) -> dict[str, Tensor]:
        """The live teacher's."""
        return self.live.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        self.live.load_state(state)


def _some(batch: Batch, rows: Int[Tensor, " n"]) -> Batch:
    """Some examples of a batch."""
    return Batch(
        **{name: map_tensors(value, lambda t: t[rows]) for name, value in batch.fields().items()}
    )


def _joined(*parts: TopK) -> TopK:
    """All positions, one part after another, on the CPU."""
    width = max(part.ids.shape[-1] for part in parts)

    def wide(values: Tensor, fill: float) -> Tensor:
        room = (0, width - values.shape[-1])
        return torch.nn.functional.pad(values, room, value=fill).cpu()

    return replace(
        parts[0],
        ids=torch.cat([wide(part.ids, -1) for part in parts]),
        log_p=torch.cat([wide(part.log_p, -torch.inf) for part in parts]),
        log_tail=torch.cat([part.log_tail.cpu() for part in parts]),
    )
