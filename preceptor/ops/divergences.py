"""Divergences between a teacher's and a student's distribution: one number a position.

All take logits [*n, V] by keyword, say which side is which, and compute in float32 or better.

Dimension key: *n positions, v classes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.types import at_least_float32


def forward_kl(
    *, teacher: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float = 1.0
) -> Float[Tensor, "*n"]:
    """KL(p || q) with p = softmax(teacher / T), q = softmax(student / T), without any T^2.

    >>> logits = torch.tensor([[0.0, 0.0]])
    >>> forward_kl(teacher=logits, student=logits)
    tensor([0.])
    """
    p = torch.log_softmax(at_least_float32(teacher) / temperature, dim=-1)
    return kl_from_logs(p=p, student=student, temperature=temperature)


def kl_from_logs(
    *, p: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float
) -> Float[Tensor, "*n"]:
    """KL(p || q) for log-probabilities p and student logits; classes with p = 0 add nothing."""
    q = torch.log_softmax(at_least_float32(student) / temperature, dim=-1)
    # 0 * (-inf) is NaN: a class that the teacher rules out has no part in the sum.
    difference = torch.where(p == -torch.inf, torch.zeros_like(p), p - q)
    return (p.exp() * difference).sum(dim=-1)
