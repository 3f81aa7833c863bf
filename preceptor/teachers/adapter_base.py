"""The base of a student with adapters as its teacher: no second model in memory.

With its low-rank adapters off, the student is the model that it began as. That is the teacher of
distillation from another prompt, and the anchor that keeps a student near where it came from.
"""

from typing import Any, final

import torch
from torch import Tensor

from preceptor.errors import ModelError
from preceptor.models.dry import keeping_modes
from preceptor.models.lora import is_adapted, without_adapters
from preceptor.models.tapped import TappedModel
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import answer
from preceptor.types import Batch, Needs, Signal


@final
class AdapterBase(Teacher):
    """The student's own base, adapters off, in eval mode and without gradients for the while.

    Afterwards the student is as it was: its adapters on, each module in its own mode.

    Args:
        model: the student itself; its base stands still because only adapters are trained.
    """

    def __init__(self, model: TappedModel) -> None:
        if not is_adapted(model.module):
            raise ModelError(
                f"the base of {type(model.module).__name__} was asked to teach",
                "it has no adapters, so its base is the student itself",
                "Give the student `lora`, or name another teacher.",
            )
        self.model = model

    def offers(self) -> Needs:
        """Everything a model can show."""
        return Needs(
            kinds=frozenset({"logits", "probabilities"}),
            teacher_taps=frozenset({"*"}),
            teacher_head=True,
        )

    def reading(self, taps: frozenset[str]) -> "AdapterBase":
        """The same student, its base showing these modules."""
        return AdapterBase(self.model.reading(taps))

    @torch.no_grad()
    def signal(self, batch: Batch) -> Signal:
        """One forward pass of the base."""
        with keeping_modes(self.model), without_adapters(self.model.module):
            self.model.eval()
            return answer(self.model, batch)

    def to(self, device: Any) -> "AdapterBase":
        """Itself: the student moves its own weights."""
        del device
        return self

    def state(self) -> dict[str, Tensor]:
        """Nothing: the base is read again from where it came from."""
        return {}
