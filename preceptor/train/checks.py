"""What silently goes wrong in practice, looked at when a run starts."""

from typing import final

import torch
from scipy.stats import binomtest
from torch import Tensor

from preceptor.errors import TeacherFailure
from preceptor.objectives.base import Sum, group
from preceptor.teachers.base import Teacher
from preceptor.train.fit import Losses
from preceptor.train.sharding import own_part
from preceptor.train.training import fixed_models
from preceptor.types import Batch, Dense, Signal

_CHANCE = 0.01
"""Where chance explains an accuracy with more than this probability, a teacher is refused."""


def check_teacher_knows(teacher: Teacher, chunk: Batch, kind: str, num_classes: int) -> float:
    """The teacher's accuracy on one chunk of examples, held-out ones where there are enough.

    A teacher that sees inputs normalised for somebody else, or whose classes stand in another
    order, answers no better than chance, and nothing else in a run would show it.

    Raises:
        TeacherFailure: where chance explains the accuracy (one-sided exact test, p > 0.01).
    """
    right = (_answers(teacher.signal(chunk)) == chunk.labels).sum().item()
    count = len(chunk)
    chance = 1.0 / num_classes
    if chance**count > _CHANCE:
        return right / count  # so few that not even a perfect teacher could show it
    if binomtest(int(right), count, chance, alternative="greater").pvalue > _CHANCE:
        raise TeacherFailure(
            f"the teacher is right on {right} of {count} {kind} examples",
            f"guessing among {num_classes} classes is right on about {count * chance:.0f}",
            "Check its weights, the order of its classes, and its `mean` and `std`.",
        )
    return right / count


def _answers(signal: Signal) -> Tensor:
    distribution = signal.whole
    # Past averages answer at one temperature alone; the most likely class is the same at any.
    temperature = distribution.temperature if isinstance(distribution, Dense) else None
    return distribution.log_probs(temperature or 1.0).argmax(dim=-1)


@final
class Untouched:
    """A teacher's models as they were, to be compared after the first step."""

    def __init__(self, teacher: Teacher) -> None:
        self.models = fixed_models(teacher)
        self.before = [
            {name: own_part(tensor).clone() for name, tensor in model.state_dict().items()}
            for model in self.models
        ]

    def check(self) -> None:
        """Raise `TeacherFailure` where a weight or a buffer moved, or a gradient arrived."""
        for model, before in zip(self.models, self.before, strict=True):
            touched = [n for n, p in model.named_parameters() if p.grad is not None]
            now = model.state_dict()
            touched += [
                n for n, tensor in before.items() if not torch.equal(tensor, own_part(now[n]))
            ]
            if touched:
                raise TeacherFailure(
                    f"the teacher's {', '.join(touched[:3])} moved in the first step",
                    "a teacher is frozen and in eval mode",
                    "Give the teacher modules of its own, not ones shared with the student.",
                )


def check_no_divergence_below_zero(losses: Losses, objective: Sum, teacher: Teacher) -> None:
    """Raise `TeacherFailure` where a term that reads probabilities is negative.

    An estimate from draws may be.
    """
    if "draws" in teacher.offers().kinds:
        return
    reading = {
        label
        for label, member in zip(objective.labels(), objective.members, strict=True)
        if member.needs().kinds and not member.part.signed
    }
    for name, value in losses.terms.items():
        bare = group(name.rpartition("/")[2])
        if bare in reading and value < -1e-4:
            raise TeacherFailure(
                f"{name} is {value:.3g}",
                "a divergence between two distributions is never below zero",
                "The teacher's signal is not a distribution: check where its logits come from.",
            )
