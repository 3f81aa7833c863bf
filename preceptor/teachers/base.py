"""What a teacher is: a provider that says what it offers and answers a batch with a signal.

A teacher stands outside the student's module tree, optimizer and export. It computes without
gradients, in eval mode, and nobody below knows whether it ran a model, read a file or averaged
the student's own past.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from preceptor.types import Batch, Needs, Outputs, Signal


class Teacher(ABC):
    """Somebody to learn from."""

    @abstractmethod
    def offers(self) -> Needs:
        """What a signal of this teacher holds; compared with what the objective needs."""

    @abstractmethod
    def signal(self, batch: Batch) -> Signal:
        """The answer to a batch: detached, on the batch's device."""

    def reading(self, taps: frozenset[str]) -> "Teacher":
        """This teacher, its signals showing these modules; itself where it has no model to read."""
        del taps
        return self

    def learn(self, student: nn.Module, seen: Sequence[tuple[Batch, Outputs]]) -> None:  # noqa: B027 (most teachers stand still)
        """Move with the student, once after each optimiser step.

        Does nothing unless the teacher is an average, a snapshot or a memory of the student.
        `seen` holds the step's micro-batches, gathered over ranks, with detached outputs.
        """

    def to(self, device: Any) -> "Teacher":
        """This teacher, its models moved to a device."""
        del device
        return self

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold so that a resumed run is the same run."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        assert not state, "a teacher that keeps a state takes it back itself"
