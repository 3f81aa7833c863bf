"""Wonpyo Park, Dongju Kim, Yan Lu, Minsu Cho.

"Relational Knowledge Distillation". CVPR 2019. arXiv:1904.05068.
"""

from dataclasses import dataclass
from typing import ClassVar, cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from preceptor.fields import NonNegative
from preceptor.objectives._pairs import flat_rows, settled_pairs
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.relations import angles, distances
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms

_NUMBERS = 2**24
"""How many numbers one tensor of angles may hold: anchors are taken so many at a time."""


@final
@dataclass(frozen=True)
class RKD(Objective[nn.Module]):
    """Huber distance (delta = 1) between the batch's relations in the teacher and the student.

    Section 3.2.1, distances: |e_i - e_j| over the mean of the positive ones, averaged over all B^2
    pairs, those of a row with itself included, as the authors do. Section 3.2.2, angles: the cosine
    at i of the angle between j and k, averaged over all B^3. Both embeddings are taken as they
    are; the student's is not normalised. The loss is the sum over all pairs of layers.

    Args:
        layers: pairs of modules whose output is an embedding; "auto" is the classifier's input.
        distance: the weight of distances; 25 is the authors' for classification (1 for metrics).
        angle: the weight of angles; 50 for classification (2 for metrics).
    """

    reads: ClassVar[LayerKind | None] = "embedding"

    layers: Layers = "auto"
    distance: NonNegative = 25.0
    angle: NonNegative = 50.0

    def needs(self) -> Needs:
        """Embeddings, of a whole batch at once."""
        return pair_needs(self.layers, Needs(scope="batch"))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a batch for distances, one for angles."""
        del aux
        far, wide = [], []
        for ours, theirs in settled_pairs(self):
            s = flat_rows(student.tap(ours), batch)
            t = flat_rows(teacher.tap(theirs).detach(), batch)
            far.append(F.smooth_l1_loss(distances(s), distances(t), reduction="sum") / _share(s, 2))
            wide.append(_angle_loss(s, t) / _share(s, 3))
        return {
            "rkd.distance": Term(torch.stack(far).sum(), per="batch", weight=self.distance),
            "rkd.angle": Term(torch.stack(wide).sum(), per="batch", weight=self.angle),
        }


def _share(rows: Float[Tensor, "b d"], power: int) -> int:
    return max(1, len(rows)) ** power


def _angle_loss(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    """The sum over all angles, a few anchors at a time; forgotten ones are computed again."""
    anchors = max(1, _NUMBERS // max(1, len(student) * (len(student) + student.shape[1])))
    if len(student) <= anchors:
        return _some_angles(student, teacher, 0, len(student))
    parts = [
        checkpoint(
            _some_angles, student, teacher, start, start + anchors,
            use_reentrant=False, preserve_rng_state=False,
        )
        for start in range(0, len(student), anchors)
    ]  # fmt: skip
    return torch.stack(cast("list[Tensor]", parts)).sum()


def _some_angles(
    student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"], start: int, stop: int
) -> Float[Tensor, ""]:
    ours = angles(student[start:stop], student)
    with torch.no_grad():
        theirs = angles(teacher[start:stop], teacher)
    return F.smooth_l1_loss(ours, theirs, reduction="sum")
