"""Seeded logits in float64, and a method's terms on them: what the tests of logit methods share."""

from typing import Any

import torch
from torch import Tensor, nn

from preceptor.objectives.base import Objective, Sum
from preceptor.types import Batch, Dense, Distribution, Outputs, Signal, Terms


def pair(*shape: int, scale: float = 3.0, seed: int = 1) -> tuple[Tensor, Tensor]:
    """A teacher's and a student's logits."""
    draw = torch.Generator().manual_seed(seed)
    teacher = scale * torch.randn(*shape, generator=draw, dtype=torch.float64)
    return teacher, scale * torch.randn(*shape, generator=draw, dtype=torch.float64)


def terms_of(
    objective: Objective[Any],
    teacher: Tensor | Distribution | None,
    student: Tensor,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Terms:
    """A method's terms on plain tensors."""
    distribution = Dense(teacher) if isinstance(teacher, Tensor) else teacher
    counts = torch.ones(student.shape[:-1], dtype=torch.bool) if mask is None else mask
    batch = Batch(student.detach(), labels=labels, mask=counts)
    return objective.terms(Outputs(student), Signal(distribution), batch, nn.Module())


def gradient(loss: Tensor, student: Tensor) -> Tensor:
    """The loss's gradient in the student's logits."""
    (found,) = torch.autograd.grad(loss, student)
    return found


def loss_on(objective: Objective[Any], **tensors: Any) -> Tensor:
    """`objective.on` for methods, and sums of methods, that have no modules of their own."""
    tensors.setdefault("mask", torch.ones(tensors["student_logits"].shape[:-1], dtype=torch.bool))
    if isinstance(objective, Sum):
        return objective.on(**tensors, aux=nn.ModuleList(nn.Module() for _ in objective.members))
    return objective.on(**tensors, aux=nn.Module())
