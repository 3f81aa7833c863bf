"""Luca Bertinetto, Romain Mueller, Konstantinos Tertikas, Sina Samangooei, Nicholas A. Lord.

"Making Better Mistakes: Leveraging Class Hierarchies with Deep Networks". CVPR, 2020.
arXiv:1912.09393. Its hierarchical cross-entropy, with a teacher's distribution for the label.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from preceptor.errors import RecipeError
from preceptor.fields import NonNegative, Positive
from preceptor.objectives.base import Objective
from preceptor.ops.divergences import group_log_probs, grouped_kl_from_logs, kl_between_logs
from preceptor.ops.grouping import Groups, check_nested, group_index
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class Hierarchy(Objective[nn.Module]):
    """T^2 sum_l w_l D_l, where D_l compares how each node of level l - 1 divides into level l.

    D_l = sum_g p_g KL(p(.|g) || q(.|g)) over the nodes g above, with p and q at T summed over
    the classes below each node; level 0 is one node, the last level the classes themselves. The
    chain rule of the divergence: with all weights 1 the sum is KD. The paper's weights are
    exp(-a h) for nodes of height h; here they are given level by level. Unlike the paper, the
    target at each node is the teacher's distribution; the tree is the user's, or comes from
    the teacher through `preceptor.ops.hierarchy.class_tree`.

    Args:
        levels: nested partitions of the classes, from the coarsest to the finest.
        weights: one for each level and a last one for the classes inside the finest groups.
        temperature: T.
    """

    example: ClassVar[dict[str, Any]] = {
        "levels": (((0, 1, 3), (2, 4)), ((0, 3), (1,), (2, 4))),
        "weights": (2.0, 1.0, 0.5),
    }

    levels: tuple[Groups, ...]
    weights: tuple[NonNegative, ...]
    temperature: Positive = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nested(self.levels)
        if len(self.weights) != len(self.levels) + 1 or any(w < 0 for w in self.weights):
            raise RecipeError(
                f"the weights {self.weights} for {len(self.levels)} levels",
                "each level has one weight >= 0, and so have the classes in the finest groups",
                f"Give {len(self.levels) + 1} numbers, the coarsest level's first.",
            )

    def needs(self) -> Needs:
        """Probabilities at T."""
        return Needs(kinds=frozenset({"probabilities"}), temperatures=frozenset({self.temperature}))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a position for each level and one for the classes."""
        del batch, aux
        p = teacher.distribution.log_probs(self.temperature).detach()
        q = torch.log_softmax(at_least_float32(student.logits) / self.temperature, dim=-1)
        steps: list[Tensor] = []
        below: Groups = tuple((member,) for member in range(p.shape[-1]))
        for groups in reversed(self.levels):
            parents = group_index(groups, student.logits.shape[-1])
            nodes = parents[[members[0] for members in below]].to(p.device)
            parts = grouped_kl_from_logs(
                p=p, student=q, groups=nodes, num_groups=len(groups), temperature=1.0
            )
            steps.insert(0, (parts.mass * parts.within).sum(dim=-1))
            p = group_log_probs(p, nodes.expand_as(p), len(groups))
            q = group_log_probs(q, nodes.expand_as(q), len(groups))
            below = groups
        steps.insert(0, kl_between_logs(p, q))
        names = [*(f"level{n}" for n in range(1, len(steps))), "classes"]
        square = self.temperature**2
        return {
            f"hierarchy.{name}": Term(square * weight * step)
            for name, weight, step in zip(names, self.weights, steps, strict=True)
        }
