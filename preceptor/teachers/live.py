"""A model that answers each batch with a forward pass."""

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.errors import NeedsError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.base import Teacher
from preceptor.teachers.chunks import chunk_log_probs
from preceptor.types import Batch, Dense, Inputs, Needs, Projected, Signal, map_tensors


@final
class Live(Teacher):
    """A frozen model in eval mode, in its own dtype whatever the student trains in.

    The taps that an objective reads are named once, with `reading`.

    Args:
        model: the teacher.
        device: where it computes; the batch's own device where nothing is said. Batches are sent
            there, and answers come back.
    """

    def __init__(self, model: TappedModel, device: str | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.device = device
        # Listed once: asking each is fifty times quicker than setting all of them every step.
        self._modules = tuple(model.modules())

    def offers(self) -> Needs:
        """Everything a model can show."""
        return Needs(
            kinds=frozenset({"logits", "probabilities"}),
            teacher_taps=frozenset({"*"}),
            teacher_head=self.model.has_head() or self.model.causal,
        )

    def reading(self, taps: frozenset[str]) -> "Live":
        """The same model, showing these modules."""
        return Live(self.model.reading(taps), self.device)

    @torch.no_grad()
    def signal(self, batch: Batch) -> Signal:
        """One forward pass."""
        if any(module.training for module in self._modules):
            self.model.eval()
        return answer(self.model, batch)

    def to(self, device: Any) -> "Live":
        """Moved to a device, unless it was given one of its own."""
        self.model.to(self.device or device)
        return self


def answer(model: TappedModel, batch: Batch) -> Signal:
    """A model's answer to a batch: taken where the model lies, given where the batch does.

    The model's own dtype is kept whatever the student's mixed precision.
    """
    inputs = batch.teacher_inputs
    there = inputs.device if isinstance(inputs, Tensor) else next(iter(inputs.values())).device
    first = next(model.parameters(), None)
    here = there if first is None else first.device
    with torch.autocast(here.type, enabled=False):
        outputs = model(_in_own_dtype(model, map_tensors(inputs, lambda t: t.to(here))))
    outputs = outputs.detached().to(there)
    if outputs.is_projected():
        shown = outputs.projection
        positions = batch.teacher_positions
        hidden = placed(shown.hidden, positions)
        taps = {name: _placed_tap(name, tap, positions) for name, tap in outputs.taps.items()}
        chunks = chunk_log_probs(shown, batch)
        return Signal(Projected(hidden, shown.head), taps, shown.head, chunks)
    head = outputs.head if model.has_head() else None
    return Signal(Dense(outputs.logits), outputs.taps, head)


def _placed_tap(name: str, tap: Tensor, positions: Int[Tensor, "b t"] | None) -> Tensor:
    """A tap at each of the student's positions."""
    if positions is None:
        return tap
    if tap.ndim != 3:
        raise NeedsError(
            f"the teacher's {name!r} {list(tap.shape)} was to be compared",
            "it reads another text than the student, and only states [B, T, D] have a position",
            "Compare hidden states, or show both the same text.",
        )
    return placed(tap, positions)


def _in_own_dtype(model: TappedModel, inputs: Inputs) -> Inputs:
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if own is None:
        return inputs
    return map_tensors(inputs, lambda t: t.to(own) if t.is_floating_point() else t)


def placed(
    hidden: Float[Tensor, "b s d"], positions: Int[Tensor, "b t"] | None
) -> Float[Tensor, "b _ d"]:
    """What a teacher shows at each of the student's positions; row 0 where it shows nothing."""
    if positions is None:
        return hidden
    index = positions.clamp_min(0).unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
    return hidden.gather(1, index)
