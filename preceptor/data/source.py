"""What a source is: where the batches of training come from."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Int
from torch import Tensor

from preceptor.types import Batch


class Source(ABC):
    """An endless stream of batches, a pure function of its seed and the step.

    It is not a `DataLoader` that somebody prepares: each rank takes its own rows of the same
    global batch, so the number of processes changes no number, and a resumed run draws what it
    would have drawn.
    """

    num_classes: int
    """How many classes there are."""

    num_examples: int
    """How many ids there are; ids are 0 to num_examples - 1."""

    @property
    @abstractmethod
    def labels(self) -> Int[Tensor, " b"]:
        """Each id's label, -1 where training may not see one."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Optimiser steps that make one pass over the labelled examples."""

    @abstractmethod
    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """This rank's rows of the next step's batch."""

    @abstractmethod
    def sample(self, count: int = 2) -> Batch:
        """A few examples for dry passes and first checks; takes nothing from the stream."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as JSON."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
