"""Divergences between a teacher's and a student's distribution: one number a position.

All take logits [*n, V] by keyword, say which side is which, and compute in float32 or better.
A class that the teacher rules out (its logit is -inf) adds nothing, unless the divergence is
infinite by definition there.

Dimension key: *n positions, v classes, g groups of classes.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
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
    p, q = _log_probs(teacher, temperature), _log_probs(student, temperature)
    return kl_between_logs(p, q)


def reverse_kl(
    *, teacher: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float = 1.0
) -> Float[Tensor, "*n"]:
    """KL(q || p) with p = softmax(teacher / T), q = softmax(student / T), without any T^2.

    Infinite where the student gives mass to a class that the teacher rules out.
    """
    p, q = _log_probs(teacher, temperature), _log_probs(student, temperature)
    return kl_between_logs(q, p)


def jensen_shannon(
    *,
    teacher: Float[Tensor, "*n v"],
    student: Float[Tensor, "*n v"],
    temperature: float = 1.0,
    beta: float = 0.5,
) -> Float[Tensor, "*n"]:
    """beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q.

    At beta = 1/2 it is symmetric and at most log 2. `beta` lies between 0 and 1, both excluded.

    >>> far = torch.tensor([[0.0, 1e4]])
    >>> round(float(jensen_shannon(teacher=far, student=-far)), 4) == round(math.log(2), 4)
    True
    """
    p, q = _log_probs(teacher, temperature), _log_probs(student, temperature)
    # log(b p + (1 - b) q) underflows on confident, disjoint sides; logaddexp does not. Where both
    # sides rule a class out its gradient is NaN, so those classes are taken from elsewhere.
    nobody = (p == -torch.inf) & (q == -torch.inf)
    first = p.masked_fill(nobody, 0.0) + math.log(beta)
    second = q.masked_fill(nobody, 0.0) + math.log1p(-beta)
    m = torch.logaddexp(first, second)
    return beta * kl_between_logs(p, m) + (1 - beta) * kl_between_logs(q, m)


def total_variation(
    *, teacher: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float = 1.0
) -> Float[Tensor, "*n"]:
    """Half of sum |p - q|: the largest difference in probability of any event, 0 to 1.

    >>> total_variation(teacher=torch.tensor([0.0, 0.0]), student=torch.tensor([0.0, 99.0]))
    tensor(0.5000)
    """
    p, q = _log_probs(teacher, temperature), _log_probs(student, temperature)
    return (p.exp() - q.exp()).abs().sum(dim=-1) / 2


def kl_from_logs(
    *, p: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float
) -> Float[Tensor, "*n"]:
    """KL(p || q) for log-probabilities p and student logits; classes with p = 0 add nothing."""
    return kl_between_logs(p, _log_probs(student, temperature))


def kl_between_logs(p: Float[Tensor, "*n v"], q: Float[Tensor, "*n v"]) -> Float[Tensor, "*n"]:
    """KL(p || q) for log-probabilities on both sides."""
    return _shares(p, q, p == -torch.inf).sum(dim=-1)


class GroupedKL(NamedTuple):
    """KL(p || q) split along a partition of the classes: between + sum_g mass_g within_g.

    between: the divergence of the groups' masses.
    within: the divergence inside each group, of p(.|g) from q(.|g).
    mass: the teacher's probability of each group.
    """

    between: Float[Tensor, "*n"]
    within: Float[Tensor, "*n g"]
    mass: Float[Tensor, "*n g"]


def grouped_kl(
    *,
    teacher: Float[Tensor, "*n v"],
    student: Float[Tensor, "*n v"],
    groups: Int[Tensor, "... v"],
    num_groups: int,
    temperature: float = 1.0,
) -> GroupedKL:
    """The parts of KL(p || q) between and within groups of classes, without any T^2.

    `groups` holds each class's group, 0 to num_groups - 1: [v], or [*n, v] where the partition
    differs by position. A group without members, or that the teacher rules out, adds nothing.

    >>> logits = torch.tensor([0.0, 0.0, 0.0, 0.0])
    >>> parts = grouped_kl(
    ...     teacher=logits, student=logits, groups=torch.tensor([0, 1, 1, 1]), num_groups=2
    ... )
    >>> parts.mass
    tensor([0.2500, 0.7500])
    """
    p = _log_probs(teacher, temperature)
    return grouped_kl_from_logs(
        p=p, student=student, groups=groups, num_groups=num_groups, temperature=temperature
    )


def grouped_kl_from_logs(
    *,
    p: Float[Tensor, "*n v"],
    student: Float[Tensor, "*n v"],
    groups: Int[Tensor, "... v"],
    num_groups: int,
    temperature: float,
) -> GroupedKL:
    """`grouped_kl` for the teacher's log-probabilities p and student logits."""
    q = _log_probs(student, temperature)
    groups = groups.expand_as(p)
    p_groups = group_log_probs(p, groups, num_groups)
    q_groups = group_log_probs(q, groups, num_groups)
    inside_p = p - p_groups.gather(-1, groups)
    inside_q = q - q_groups.gather(-1, groups)
    shares = _shares(inside_p, inside_q, p == -torch.inf)
    within = torch.zeros_like(q_groups).scatter_add(-1, groups, shares)
    return GroupedKL(kl_between_logs(p_groups, q_groups), within, p_groups.exp())


def group_log_probs(
    logs: Float[Tensor, "*n v"], groups: Int[Tensor, "*n v"], num_groups: int
) -> Float[Tensor, "*n g"]:
    """log of each group's summed probability: a logsumexp over its members, -inf without any."""
    nothing = logs.new_full((*logs.shape[:-1], num_groups), -torch.inf)
    top = nothing.scatter_reduce(-1, groups, logs.detach(), "amax")
    top = torch.where(top == -torch.inf, torch.zeros_like(top), top)
    sums = torch.zeros_like(top).scatter_add(-1, groups, (logs - top.gather(-1, groups)).exp())
    # The gradient of log at 0 is infinite, and infinity times the 0 that it meets is NaN.
    empty = sums == 0
    return torch.where(empty, nothing, sums.masked_fill(empty, 1.0).log() + top)


def _log_probs(logits: Float[Tensor, "*n v"], temperature: float) -> Float[Tensor, "*n v"]:
    return torch.log_softmax(at_least_float32(logits) / temperature, dim=-1)


def _shares(
    p: Float[Tensor, "*n v"], q: Float[Tensor, "*n v"], ruled_out: Bool[Tensor, "*n v"]
) -> Float[Tensor, "*n v"]:
    """Each class's part of KL(p || q), for logarithms: 0 (and not 0 * inf) where p is 0."""
    return p.masked_fill(ruled_out, -torch.inf).exp() * (p - q).masked_fill(ruled_out, 0.0)
