"""Training batches of text: a pure function of seed, step, rank and world."""

from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.counter import shuffled
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.types import Batch

_ORDER = 3


@final
class TextSource(Source):
    """Each step's batch: `batch` examples of a set, in a new order every epoch.

    Each rank takes its own rows of the same global batch, and all ranks pad to the same length.

    Args:
        texts: the training set.
        batch: examples a step, over all ranks.
        seed: decides the orders.
    """

    def __init__(self, texts: TextSet, *, batch: int, seed: int = 0) -> None:
        self.texts, self._batch, self._seed = texts, batch, seed
        self.num_classes, self.num_examples = texts.vocabulary, len(texts)
        self._step = 0

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
        places = np.arange(step * self._batch, (step + 1) * self._batch)
        epochs, within = np.divmod(places, len(self.texts))
        ids = np.arange(len(self.texts))
        orders = {int(e): shuffled(ids, self._seed, _ORDER, int(e)) for e in np.unique(epochs)}
        return np.array([orders[e][w] for e, w in zip(epochs.tolist(), within, strict=True)])

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """Rows rank, rank + world, ... of the next step's batch."""
        ids = self.drawn(self._step)
        self._step += 1
        longest = int(self.texts.lengths[ids].max())
        return self.texts.batch(ids[rank::world], length=-(-longest // 8) * 8)

    def sample(self, count: int = 2) -> Batch:
        """The first examples; the stream stays in place."""
        return self.texts.batch(np.arange(count))

    def state(self) -> dict[str, Any]:
        """The number of steps taken."""
        return {"step": self._step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self._step = state["step"]
