"""A student with its methods' auxiliary modules: the one module that is wrapped and trained."""

from collections.abc import Callable
from typing import TypeVar, final

import torch
from torch import nn

from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Sum
from preceptor.types import Batch, Context, Outputs

T = TypeVar("T")


@final
class Member(nn.Module):
    """What data parallelism wraps. The loss goes in as a closure and is evaluated inside.

    So a wrapper that reduces gradients or gathers parameters sees everything that is used.
    """

    def __init__(self, student: TappedModel, aux: nn.ModuleList) -> None:
        super().__init__()
        self.student = student
        self.aux = aux

    def learning(self) -> None:
        """Back in train mode, if whoever looked at the student between two steps left eval mode."""
        if not (self.training and self.student.training and self.student.module.training):
            self.train()

    def forward(self, batch: Batch, then: Callable[[Outputs, nn.ModuleList], T]) -> T:
        """Runs the student, then `then` on what it shows, in float32 whatever the precision."""
        outputs = self.student(batch.inputs)
        with torch.autocast(outputs.device.type, enabled=False):
            return then(outputs, self.aux)


def make_auxiliary(objective: Sum, context: Context, seed: int) -> nn.ModuleList:
    """The methods' modules, initialised from a seed of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return objective.auxiliary(context)
