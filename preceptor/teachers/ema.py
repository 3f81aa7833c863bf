"""Antti Tarvainen, Harri Valpola.

"Mean teachers are better role models: Weight-averaged consistency targets improve
semi-supervised deep learning results". NeurIPS 2017. arXiv:1703.01780.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from preceptor.errors import RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.teachers.weights import counterparts, frozen_copy, named_tensors, take_over
from preceptor.types import Batch, Needs, Outputs, Signal, at_least_float32


@final
class EMA(Teacher):
    """A student's weights, averaged over its past: theta' <- a theta' + (1 - a) theta.

    After the n-th optimiser step a = min(1 - 1 / (n + 1), decay): at first the plain mean of the
    start and all steps, then an average with a fixed horizon. Buffers (BatchNorm's statistics)
    are taken over as they are. Before the first step the student's start answers, so that a
    weight that ramps up from zero is the paper's advice.

    Args:
        student: copied now; `learn` expects this one, unwrapped.
        decay: the largest a, 0 to below 1.
    """

    def __init__(self, student: TappedModel, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise RecipeError(
                f"ema(decay={decay})",
                "decay must be >= 0 and < 1: at 1 the teacher would stay at the student's start",
                "Choose a value in that range; 0.999 is usual.",
            )
        self.decay, self.step = decay, 0
        self._live = Live(frozen_copy(student))

    @property
    def model(self) -> TappedModel:
        """The averaged model."""
        return self._live.model

    def offers(self) -> Needs:
        """Everything a model can show."""
        return self._live.offers()

    def reading(self, taps: frozenset[str]) -> "EMA":
        """The same average, showing these modules."""
        other = copy(self)
        other._live = self._live.reading(taps)
        return other

    def signal(self, batch: Batch) -> Signal:
        """One forward pass of the averaged model."""
        return self._live.signal(batch)

    @torch.no_grad()
    def learn(self, student: nn.Module, seen: Sequence[tuple[Batch, Outputs]]) -> None:
        """One step of the average."""
        del seen
        self.step += 1
        kept = min(1 - 1 / (self.step + 1), self.decay)
        own, theirs = dict(self.model.named_parameters()), dict(student.named_parameters())
        now = [at_least_float32(tensor) for tensor in counterparts(theirs, own)]
        get_ema_multi_avg_fn(kept)(tuple(own.values()), tuple(now), self.step)
        buffers, fresh = dict(self.model.named_buffers()), dict(student.named_buffers())
        for buffer, tensor in zip(buffers.values(), counterparts(fresh, buffers), strict=True):
            buffer.copy_(tensor)

    def to(self, device: Any) -> "EMA":
        """Moved to a device."""
        self._live.to(device)
        return self

    def state(self) -> dict[str, Tensor]:
        """The average and how many steps it has seen."""
        weights = {f"weights.{n}": t.detach().clone() for n, t in named_tensors(self.model).items()}
        return {"step": torch.tensor(self.step), **weights}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        self.step = int(state["step"])
        take_over(self.model, {n.removeprefix("weights."): t for n, t in state.items()})
