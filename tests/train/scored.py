"""Sequences, teachers and methods whose loss is taken by slices and from whole logits."""

from typing import Any

import torch
from torch import Tensor, nn

from preceptor import (
    CE,
    GKD,
    KD,
    TAID,
    AdaptiveKL,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    TotalVariation,
)
from preceptor.distributions import Dense, Distribution, Head, Projected
from preceptor.objectives.base import Objective, Sum
from preceptor.objectives.reduction import total
from preceptor.train.scoring import Share, Worth
from preceptor.types import Batch, Context, Outputs, Signal

ROWS, LENGTH, WIDTH, CLASSES = 3, 6, 5, 17

CLOSED: dict[str, Objective[Any]] = {
    "ce": CE(),
    "kd": KD(temperature=2.0),
    "reverse": ReverseKL(temperature=1.5),
    "jsd": GKD(beta=0.3, temperature=0.7),
    "jsd normalised": GKD(beta=0.1, normalised=True),
    "beta 0": GKD(beta=0.0),
    "beta 1": GKD(beta=1.0),
    "skew": SkewKL(),
    "skew reverse": SkewReverseKL(skew=0.2),
    "variation": TotalVariation(),
    "adaptive": AdaptiveKL(),
    "labels and teacher": 0.3 * CE() + 0.7 * KD(temperature=2.0),
    "at one temperature": 0.3 * CE() + 0.7 * GKD(beta=0.0),
    "three": CE() + 2.0 * ReverseKL(over="student_written") + 0.5 * KD(over="teacher_written"),
    "twice": KD(temperature=1.0) + KD(temperature=4.0),
}
OTHERS: dict[str, Objective[Any]] = {"taid": TAID(), "mixed": CE() + 0.5 * TAID()}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def batch_of(rows: int = ROWS, mask: Tensor | None = None) -> Batch:
    """Sequences with holes, blank labels, and a note of who wrote what."""
    draw = torch.Generator().manual_seed(3)
    shape = (rows, LENGTH)
    if mask is None:
        mask = torch.rand(shape, generator=draw) < 0.7
    labels = torch.randint(CLASSES, shape, generator=draw)
    labels = labels.masked_fill(torch.rand(shape, generator=draw) < 0.2, -1)
    student = torch.rand(shape, generator=draw) < 0.5
    return Batch(
        torch.zeros(shape, dtype=torch.int64),
        labels=labels,
        mask=mask,
        masks={"student_written": student, "teacher_written": ~student},
    )


def projected_teacher(rows: int = ROWS, classes: int = CLASSES) -> Projected:
    return Projected(normal(rows, LENGTH, 4, seed=5), Head(2 * normal(classes, 4, seed=6)))


def dense_teacher() -> Dense:
    shown = projected_teacher()
    return Dense(shown.head.logits(shown.hidden))


def modules(objective: Sum, teacher: Distribution) -> nn.ModuleList:
    logits = torch.zeros(2, CLASSES)
    context = Context(Outputs(logits), Signal(teacher), CLASSES, 2, torch.zeros(2).long())
    return objective.auxiliary(context)


def share_of(
    objective: Objective[Any], teacher: Distribution | None, batch: Batch, factor: float = 1.0
) -> Share:
    whole = Sum(objective.parts())
    signal = Signal(teacher)
    aux = modules(whole, teacher or dense_teacher())
    counted = lambda _, term: Worth(term.weight, factor / 7)  # noqa: E731
    return Share(whole, whole.labels(), signal, batch, aux, counted)


def dense(
    objective: Objective[Any], teacher: Distribution | None, batch: Batch, logits: Tensor
) -> Tensor:
    """The same loss from whole logits."""
    whole = Sum(objective.parts())
    seen = None if teacher is None else dense_of(teacher)
    aux = modules(whole, teacher or dense_teacher())
    terms = whole.terms(Outputs(logits), Signal(seen), batch, aux)
    return torch.stack([t.weight * total(t, batch) / 7 for t in terms.values()]).sum()


def dense_of(teacher: Distribution) -> Distribution:
    if isinstance(teacher, Projected):
        return Dense(teacher.head.logits(teacher.hidden))
    return teacher


def student(rows: int = ROWS, **form: Any) -> tuple[list[Tensor], Projected]:
    leaves = [normal(rows, LENGTH, WIDTH).requires_grad_(), normal(CLASSES, WIDTH, seed=1)]
    leaves[1].requires_grad_()
    if form.pop("bias", False):
        leaves.append(normal(CLASSES, seed=2).requires_grad_())
    head = Head(leaves[1], leaves[2] if len(leaves) > 2 else None, **form)
    return leaves, Projected(leaves[0], head)


def loss_of(share: Share, shown: Projected) -> Tensor:
    return torch.stack(list(share.scored(Outputs(shown)).losses.values())).sum()


def assert_equal(
    objective: Objective[Any], teacher: Distribution | None, batch: Batch, **form: Any
) -> None:
    leaves, shown = student(**form)
    ours = loss_of(share_of(objective, teacher, batch), shown)
    theirs = dense(objective, teacher, batch, shown.head.logits(shown.hidden))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)
    )
