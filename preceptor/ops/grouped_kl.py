"""KL(p || q) split along a partition of the classes: between the groups and within each.

Dimension key: *n positions, v classes, g groups of classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.ops.divergences import kl_between_logs, kl_shares, log_probs_of


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
    p = log_probs_of(teacher, temperature)
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
    q = log_probs_of(student, temperature)
    groups = groups.expand_as(p)
    p_groups = group_log_probs(p, groups, num_groups)
    q_groups = group_log_probs(q, groups, num_groups)
    inside_p = p - p_groups.gather(-1, groups)
    inside_q = q - q_groups.gather(-1, groups)
    shares = kl_shares(inside_p, inside_q, p == -torch.inf)
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
