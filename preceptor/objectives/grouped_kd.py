"""Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu, Jiajun Liang.

"Decoupled Knowledge Distillation". CVPR, 2022. arXiv:2203.08679. Its decomposition of the
divergence, from {label} and {the rest} to any partition of the classes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import nn

from preceptor.fields import NonNegative, Positive
from preceptor.objectives.base import Objective
from preceptor.ops.grouped_kl import grouped_kl_from_logs
from preceptor.ops.grouping import Groups, check_groups, group_index
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class GroupedKD(Objective[nn.Module]):
    """T^2 (between KL(p_G || q_G) + within sum_g w_g KL(p(.|g) || q(.|g))).

    p_G are the groups' masses, p(.|g) the distribution inside a group, both at T. Coupled,
    w_g = p_g, and between = within = 1 is KD whatever the groups. Uncoupled, w_g = 1: a group
    counts as much where the teacher gives it nothing, as in DKD, whose groups depend on the label.

    Args:
        groups: class indices, each in exactly one group.
        between: the weight of the masses.
        within: the weight of what is inside the groups.
        coupled: whether a group counts as much as the teacher's probability for it.
        temperature: T.
    """

    example: ClassVar[dict[str, Any]] = {"groups": ((0, 3), (1,), (2, 4))}

    groups: Groups
    between: NonNegative = 1.0
    within: NonNegative = 1.0
    coupled: bool = True
    temperature: Positive = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_groups(self.groups)

    def needs(self) -> Needs:
        """Probabilities at T."""
        return Needs(
            kinds=frozenset({"probabilities"}),
            temperatures=frozenset({self.temperature}),
            linear=self.coupled,
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """Two numbers a position."""
        del batch, aux
        logits = student.logits
        parts = grouped_kl_from_logs(
            p=teacher.whole.log_probs(self.temperature).detach(),
            student=logits,
            groups=group_index(self.groups, logits.shape[-1]).to(logits.device),
            num_groups=len(self.groups),
            temperature=self.temperature,
        )
        inside = parts.mass * parts.within if self.coupled else parts.within
        square = self.temperature**2
        return {
            "grouped_kd.between": Term(square * self.between * parts.between),
            "grouped_kd.within": Term(square * self.within * inside.sum(dim=-1)),
        }
