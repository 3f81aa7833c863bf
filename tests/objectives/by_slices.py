"""A method's loss through hidden states and a head, scored by slices, beside the dense one."""

from typing import Any

import torch
from torch import Tensor, nn

from preceptor.distributions import Head, Projected
from preceptor.objectives.base import Objective, Sum
from preceptor.objectives.reduction import total
from preceptor.train.scoring import Share, Worth
from preceptor.types import Batch, Outputs, Signal

CLASSES = 11


def batch_of_two(**changes: Any) -> Batch:
    """Two sequences of six: labels, a mask with holes, who wrote what, and what sampling left."""
    draw = torch.Generator().manual_seed(3)
    mask = torch.rand(2, 6, generator=draw) < 0.8
    labels = torch.randint(CLASSES, (2, 6), generator=draw).masked_fill(~mask, -1)
    student = torch.rand(2, 6, generator=draw) < 0.5
    double = torch.float64
    fields = {
        "labels": labels,
        "mask": mask,
        "masks": {"student_written": student, "teacher_written": ~student},
        "extra": {
            "advantage": torch.randn(2, 6, generator=draw, dtype=double),
            "importance": torch.rand(2, 6, generator=draw, dtype=double) + 0.5,
            "sampled_log_q": -2 - torch.rand(2, 6, generator=draw, dtype=double),
        },
    }
    return Batch(torch.zeros(2, 6, dtype=torch.int64), **{**fields, **changes})


def assert_slices_are_the_whole(objective: Objective[Any], aux: nn.Module | None = None) -> None:
    """Loss, and gradients of hidden states and head, of slices and of whole logits are the same."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    hidden, weight = normal(2, 6, 4).requires_grad_(), normal(CLASSES, 4).requires_grad_()
    teacher, head = Projected(normal(2, 6, 3), Head(normal(CLASSES, 3))), Head(weight)
    batch, whole = batch_of_two(), Sum(objective.parts())
    modules = nn.ModuleList([aux or nn.Module()])
    share = Share(
        whole, whole.labels(), Signal(teacher), batch, modules, lambda _, t: Worth(t.weight, 0.5)
    )
    scored = share.scored(Outputs(Projected(hidden, head)))
    sliced = torch.stack(list(scored.losses.values())).sum()
    dense = whole.terms(Outputs(head.logits(hidden)), Signal(teacher), batch, modules)
    parts = [term.weight * total(term, batch) / 2 for term in dense.values()]
    expected = torch.stack(parts).sum()
    torch.testing.assert_close(sliced, expected)
    ours = torch.autograd.grad(sliced, [hidden, weight])
    theirs = torch.autograd.grad(expected, [hidden, weight])
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)
    assert ours[0].abs().max() > 0
