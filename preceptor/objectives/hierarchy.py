"""Luca Bertinetto, Romain Mueller, Konstantinos Tertikas, Sina Samangooei, Nicholas A. Lord.

"Making Better Mistakes: Leveraging Class Hierarchies with Deep Networks". CVPR, 2020.
arXiv:1912.09393. Its hierarchical cross-entropy, with a teacher's distribution for the label.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from preceptor.errors import RecipeError
from preceptor.fields import NonNegative, Positive
from preceptor.objectives.base import Objective
from preceptor.ops.divergences import kl_between_logs
from preceptor.ops.grouped_kl import group_log_probs, grouped_kl_from_logs
from preceptor.ops.grouping import Groups, check_nested, group_index
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class TeacherTree:
    """A tree that comes from the teacher's classifier: classes with like rows stand together.

    Args:
        sizes: how many groups each level has, from the coarsest to the finest.
    """

    sizes: tuple[int, ...]


@final
class Tree(nn.Module):
    """Each class's group at each level, the coarsest first: [l, v], saved with the run."""

    groups: Tensor

    def __init__(self, groups: Int[Tensor, "l v"]) -> None:
        super().__init__()
        self.register_buffer("groups", groups)


@final
@dataclass(frozen=True)
class Hierarchy(Objective[nn.Module]):
    """T^2 sum_l w_l D_l, where D_l compares how each node of level l - 1 divides into level l.

    D_l = sum_g p_g KL(p(.|g) || q(.|g)) over the nodes g above, with p and q at T summed over
    the classes below each node; level 0 is one node, the last level the classes themselves. The
    chain rule of the divergence: with all weights 1 the sum is KD. The paper's weights are
    exp(-a h) for nodes of height h; here they are given level by level. Unlike the paper, the
    target at each node is the teacher's distribution, and the tree may be the teacher's.

    Args:
        levels: nested partitions of the classes, from the coarsest to the finest; or a
            `TeacherTree`. `preceptor.ops.hierarchy` derives partitions from soft labels too.
        weights: one for each level and a last one for the classes inside the finest groups.
        temperature: T.
    """

    example: ClassVar[dict[str, Any]] = {
        "levels": (((0, 1, 3), (2, 4)), ((0, 3), (1,), (2, 4))),
        "weights": (2.0, 1.0, 0.5),
    }

    levels: tuple[Groups, ...] | TeacherTree
    weights: tuple[NonNegative, ...]
    temperature: Positive = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.levels, TeacherTree):
            check_nested(self.levels)
        levels = len(self._sizes())
        if levels == 0 or len(self.weights) != levels + 1 or any(w < 0 for w in self.weights):
            raise RecipeError(
                f"the weights {self.weights} for {levels} levels",
                "each level has one weight >= 0, and so have the classes in the finest groups",
                f"Give {levels + 1} numbers, the coarsest level's first, for at least one level.",
            )

    def needs(self) -> Needs:
        """Probabilities at T; the teacher's classifier where the tree comes from it."""
        return Needs(
            kinds=frozenset({"probabilities"}),
            temperatures=frozenset({self.temperature}),
            teacher_head=self.has_auxiliary(),
        )

    def has_auxiliary(self) -> bool:
        """Whether there is a tree to derive and to keep."""
        return isinstance(self.levels, TeacherTree)

    def auxiliary(self, context: Context) -> nn.Module:
        """The teacher's tree, derived once."""
        if not isinstance(self.levels, TeacherTree):
            return nn.Module()
        from preceptor.ops.hierarchy import class_tree, likeness_from_head  # scipy: when needed

        weight = context.teacher.head.weight
        levels = class_tree(likeness_from_head(weight.detach().float()), self.levels.sizes)
        return Tree(_indices(levels, len(weight)).to(weight.device))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a position for each level and one for the classes."""
        del batch
        p = teacher.whole.log_probs(self.temperature).detach()
        q = torch.log_softmax(at_least_float32(student.logits) / self.temperature, dim=-1)
        index = self._index(q.shape[-1], aux).to(q.device)  # [l, V]
        nodes = torch.arange(q.shape[-1], device=q.device)  # each class's node one level below
        steps: list[Tensor] = []
        for groups, size in zip(index.flip(0), reversed(self._sizes()), strict=True):
            parents = groups.new_empty(p.shape[-1])
            parents[nodes] = groups
            parts = grouped_kl_from_logs(
                p=p, student=q, groups=parents, num_groups=size, temperature=1.0
            )
            steps.insert(0, (parts.mass * parts.within).sum(dim=-1))
            p = group_log_probs(p, parents.expand_as(p), size)
            q = group_log_probs(q, parents.expand_as(q), size)
            nodes = groups
        steps.insert(0, kl_between_logs(p, q))
        names = [*(f"level{n}" for n in range(1, len(steps))), "classes"]
        square = self.temperature**2
        return {
            f"hierarchy.{name}": Term(square * weight * step)
            for name, weight, step in zip(names, self.weights, steps, strict=True)
        }

    def _sizes(self) -> tuple[int, ...]:
        if isinstance(self.levels, TeacherTree):
            return self.levels.sizes
        return tuple(len(groups) for groups in self.levels)

    def _index(self, num_classes: int, aux: nn.Module) -> Int[Tensor, "l v"]:
        if isinstance(self.levels, TeacherTree):
            return cast("Tree", aux).groups
        return _indices(self.levels, num_classes)


def _indices(levels: tuple[Groups, ...], num_classes: int) -> Int[Tensor, "l v"]:
    return torch.stack([group_index(groups, num_classes) for groups in levels])
