"""Training batches of text: a pure function of seed, step, rank and world."""

import hashlib
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.collate import rounded
from preceptor.data.counter import shuffled
from preceptor.data.packing import packed_alike
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.errors import DataError
from preceptor.types import Batch

_ORDER, _WITHIN = 3, 4


@final
class TextSource(Source):
    """Each step's batch: `batch` examples of a set, in a new order every epoch.

    Orders go on in the next epoch where one ends within a batch. Each rank takes its own rows of
    the same global batch, and all ranks pad to the same length.

    Args:
        texts: the training set.
        batch: examples a step, over all ranks.
        seed: decides the orders.
        bucket: steps whose examples are drawn together and sorted by length, so that one batch
            holds examples of like length; the batches come in a random order. 1: no sorting.
        pack: tokens of a sequence into which several examples are packed, or None for one example
            a sequence. The examples of a step are the same either way.

    Raises:
        DataError: nothing scored is in the set, or an example does not fit into a sequence.
    """

    def __init__(
        self,
        texts: TextSet,
        *,
        batch: int,
        seed: int = 0,
        bucket: int = 1,
        pack: int | None = None,
    ) -> None:
        if batch < 1 or bucket < 1:
            raise DataError(
                f"batch={batch}, bucket={bucket}",
                "a step draws at least one example, a bucket spans at least one step",
                "Give 1 or more.",
            )
        longest = int(texts.lengths.max())
        if pack is not None and longest > pack:
            index = int(texts.lengths.argmax())
            raise DataError(
                f"{texts.row(index).place} has {longest} tokens",
                f"examples are packed into sequences of {pack}",
                "Pack into longer sequences, or drop long rows.",
            )
        self.texts, self._batch, self._seed = texts, batch, seed
        self._bucket, self._pack = bucket, pack
        self.num_classes, self.num_examples = texts.vocabulary, len(texts)
        self._step = 0
        self._orders: dict[int, NDArray[np.int64]] = {}

    @property
    def labels(self) -> Int[Tensor, " b"]:
        """None: a text has no class."""
        return torch.empty(0, dtype=torch.int64)

    @property
    def step(self) -> int:
        """How many steps were taken."""
        return self._step

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every example is drawn at least once."""
        return -(-len(self.texts) // self._batch)

    def drawn(self, step: int) -> NDArray[np.int64]:
        """The examples of a step's batch, over all ranks: what rollouts take prompts of."""
        first = step - step % self._bucket
        window = self._window(first * self._batch, self._bucket * self._batch)
        if self._bucket == 1:
            return window
        by_length = window[np.argsort(self.texts.lengths[window], kind="stable")]
        order = shuffled(np.arange(self._bucket), self._seed, _WITHIN, first)
        return by_length.reshape(self._bucket, self._batch)[order[step - first]]

    def _window(self, start: int, count: int) -> NDArray[np.int64]:
        """Places of the endless concatenation of epochs."""
        epochs, within = np.divmod(np.arange(start, start + count), len(self.texts))
        ids = np.arange(len(self.texts))
        orders: dict[int, NDArray[np.int64]] = {}
        for epoch in np.unique(epochs).tolist():
            held = self._orders.get(epoch)
            orders[epoch] = shuffled(ids, self._seed, _ORDER, epoch) if held is None else held
        self._orders = orders  # what this step used is what the next one begins with
        return np.concatenate([orders[e][within[epochs == e]] for e in orders])

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """Rows rank, rank + world, ... of the next step's batch, padded as on every other rank."""
        if self._batch % world:
            raise DataError(
                f"batch={self._batch} on {world} processes",
                "every process takes the same number of examples",
                f"Choose a multiple of {world}.",
            )
        ids = self.drawn(self._step)
        self._step += 1
        own, lengths, theirs = ids[rank::world], self.texts.lengths[ids], self.texts.teacher_lengths
        seen = None if theirs is None else theirs[ids]
        if self._pack is not None:
            alone = self.texts.batch(own)
            return packed_alike(alone, lengths, seen, room=self._pack, rank=rank, world=world)
        return self.texts.batch(
            own,
            length=rounded(int(lengths.max()), 8),
            teacher_length=None if seen is None else rounded(int(seen.max()), 8),
        )

    def sample(self, count: int = 2) -> Batch:
        """The first examples with something scored; the stream stays in place."""
        able = self.texts.scored.nonzero()[0]
        if count > len(self.texts):
            raise DataError(
                f"a sample of {count} examples was asked for",
                f"the source has {len(self.texts)}",
                "Ask for fewer, or add rows.",
            )
        others = np.setdiff1d(np.arange(len(self.texts)), able)
        return self.texts.batch(np.concatenate([able, others])[:count])

    def state(self) -> dict[str, Any]:
        """The number of steps taken, and what the draws depend on."""
        return {"step": self._step, "draws": self._identity}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave; refuses the state of a source that draws otherwise."""
        if state["draws"] != self._identity:
            raise DataError(
                "the checkpoint's source has other rows, another rendering, batch or seed",
                "going on from it would train on other draws than the run began with",
                "Start in a new folder, or restore the data and its options.",
            )
        self._step = state["step"]

    @property
    def _identity(self) -> str:
        said = (self._batch, self._seed, self._bucket, self._pack, self.texts.fingerprint)
        return hashlib.sha256(repr(said).encode()).hexdigest()
