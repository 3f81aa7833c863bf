"""Chenglin Yang, Lingxi Xie, Chi Su, Alan L. Yuille.

"Snapshot Distillation: Teacher-Student Optimization in One Generation". CVPR 2019.
arXiv:1812.00123.
"""

from collections.abc import Sequence
from copy import copy, deepcopy
from typing import Any, final

import torch
from torch import Tensor, nn

from preceptor.errors import RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.base import Teacher
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.live import Live
from preceptor.teachers.weights import frozen_copy, named_tensors, take_over
from preceptor.types import Batch, Needs, Outputs, Signal


@final
class Snapshots(Teacher):
    """The student as it was at certain steps: the last snapshot, or the mean of the last several.

    Before the first snapshot the student's start answers. Where the start is random it knows
    nothing: let the objective's weight begin at the first snapshot (a `Ramp`). The start is no
    member of any later mean.

    Args:
        student: copied now; `learn` expects this one, unwrapped.
        at: the optimiser steps after which a snapshot is taken (the ends of the learning rate's
            cycles, say), or one number: after every so many.
        last: how many of the latest snapshots are kept and answer together, by the mean of
            their probabilities. One alone also shows its features and its classifier.
    """

    def __init__(self, student: TappedModel, at: tuple[int, ...] | int, last: int = 1) -> None:
        steps = (at,) if isinstance(at, int) else at
        if not steps or min(steps) < 1 or last < 1:
            raise RecipeError(
                f"snapshots(at={at}, last={last})",
                "`at` names steps from 1 on, and at least one snapshot answers",
                "Write at: 500 for every 500 steps, or at: [500, 800].",
            )
        self.at, self.last, self.step = at, last, 0
        self._lives = [Live(frozen_copy(student))]
        self._started = False

    @property
    def models(self) -> tuple[TappedModel, ...]:
        """The models that answer now, oldest first."""
        return tuple(live.model for live in self._lives)

    @property
    def model(self) -> TappedModel:
        """The newest of them."""
        return self.models[-1]

    def offers(self) -> Needs:
        """Everything a model can show; of several, probabilities."""
        return self._lives[0].offers() if self.last == 1 else Ensemble(self._lives).offers()

    def reading(self, taps: frozenset[str]) -> "Snapshots":
        """The same snapshots, showing these modules."""
        other = copy(self)
        other._lives = [live.reading(taps) for live in self._lives]
        return other

    def signal(self, batch: Batch) -> Signal:
        """One forward pass of each snapshot."""
        if self.last == 1:
            return self._lives[0].signal(batch)
        return Ensemble(self._lives).signal(batch)

    def learn(self, student: nn.Module, seen: Sequence[tuple[Batch, Outputs]]) -> None:
        """Takes a snapshot where one is due, and lets go of the oldest."""
        del seen
        self.step += 1
        due = self.step % self.at == 0 if isinstance(self.at, int) else self.step in self.at
        if not due:
            return
        fresh = deepcopy(self._lives[-1])
        take_over(fresh.model, named_tensors(student))
        self._lives = [*(self._lives if self._started else []), fresh][-self.last :]
        self._started = True

    def to(self, device: Any) -> "Snapshots":
        """Moved to a device."""
        for live in self._lives:
            live.to(device)
        return self

    def state(self) -> dict[str, Tensor]:
        """Every kept snapshot, and how many steps were seen."""
        state = {"step": torch.tensor(self.step), "started": torch.tensor(self._started)}
        for index, model in enumerate(self.models):
            for name, tensor in named_tensors(model).items():
                state[f"{index}.{name}"] = tensor.detach().clone()
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        self.step, self._started = int(state["step"]), bool(state["started"])
        count = len({name.partition(".")[0] for name in state if "." in name})
        self._lives = [deepcopy(self._lives[0]) for _ in range(count)]
        for index, model in enumerate(self.models):
            own = f"{index}."
            take_over(
                model, {n.removeprefix(own): t for n, t in state.items() if n.startswith(own)}
            )
