"""A model that answers each batch with a forward pass."""

from typing import Any, final

import torch

from preceptor.models.tapped import TappedModel
from preceptor.teachers.base import Teacher
from preceptor.types import Batch, Dense, Needs, Signal, detached_head


@final
class Live(Teacher):
    """A frozen model in eval mode, in its own dtype.

    The taps that an objective reads are named once, with `reading`.
    """

    def __init__(self, model: TappedModel) -> None:
        self.model = model.eval().requires_grad_(False)

    def offers(self) -> Needs:
        """Everything a model can show."""
        return Needs(
            kinds=frozenset({"logits", "probabilities"}),
            teacher_taps=frozenset({"*"}),
            teacher_head=self.model.has_head(),
        )

    def reading(self, taps: frozenset[str]) -> "Live":
        """The same model, showing these modules."""
        return Live(self.model.reading(taps))

    @torch.no_grad()
    def signal(self, batch: Batch) -> Signal:
        """One forward pass."""
        self.model.eval()
        outputs = self.model(batch.teacher_inputs)
        head = detached_head(outputs.head) if self.model.has_head() else None
        return Signal(Dense(outputs.logits), outputs.taps, head)

    def to(self, device: Any) -> "Live":
        """Moved to a device."""
        self.model.to(device)
        return self
