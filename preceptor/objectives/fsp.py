"""Junho Yim, Donggyu Joo, Jihoon Bae, Junmo Kim.

"A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning".
CVPR 2017, pages 4133-4141.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from preceptor.errors import ModelError, RecipeError
from preceptor.objectives._adapters import Tapped, added, counting_rows, kept, tapped_maps
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import common_size, flow, pooled, squared_difference
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class FSP(Objective[nn.Module]):
    """sum_i ||G_i^T - G_i^S||_F^2 with the flow G = F_1 F_2^T / (h w) between two layers of a net.

    Equations 1 and 2 with equal lambda, one number an example: the squared Frobenius norm is a sum
    over the matrix, so it grows with the channels. Within a net the larger of the two maps is
    max-pooled to the smaller one's size, as in the paper.

    Unlike the code of CIFAR tables, which takes the mean over the matrix (C_1 C_2 times smaller:
    divide the weight by that) and average-pools.

    This is the paper's first stage, which trains alone; its second is cross-entropy alone. A
    recipe lists both. The two nets need equal channels at both layers; there is no adapter.

    Args:
        layers: an even number of (student, teacher) pairs: a flow's entry, its exit, the next
            flow's entry, its exit. "auto" is the input and the output of every stage.
    """

    reads: ClassVar[LayerKind | None] = "flow"

    layers: Layers = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers != "auto" and len(self.layers) % 2:
            raise RecipeError(
                f"FSP has {len(self.layers)} pairs of layers",
                "each flow takes two, its entry and its exit",
                "Name an even number of pairs.",
            )

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number an example, added over the flows."""
        del aux
        rows = counting_rows(batch)
        pairs = tapped_maps(self.layers, student, teacher)
        distances: list[Tensor] = []
        for entry, leave in zip(pairs, pairs, strict=True):
            _check_channels(entry)
            _check_channels(leave)
            target = kept(_flow(entry.teacher, leave.teacher), rows)
            distance = squared_difference(_flow(entry.student, leave.student), target)
            distances.append(distance.flatten(1).sum(dim=1))
        return {"fsp": Term(added(distances), per="example")}


def _flow(entry: Tensor, leave: Tensor) -> Tensor:
    size = common_size((entry, leave))
    return flow(pooled(entry, size, "max"), pooled(leave, size, "max"))


def _check_channels(pair: Tapped) -> None:
    ours, theirs = pair.student.shape[1], pair.teacher.shape[1]
    if ours != theirs:
        raise ModelError(
            f"{pair.words} have {ours} and {theirs} channels",
            "flow matrices are compared entry by entry, and this method has no adapter",
            "Pair layers of equal width, choose a student that differs in depth alone, or use "
            "`attention_transfer` or `sp`.",
        )
