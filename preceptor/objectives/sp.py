"""Frederick Tung, Greg Mori.

"Similarity-Preserving Knowledge Distillation". ICCV 2019. arXiv:1907.09682.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import nn

from preceptor.objectives._pairs import flat_rows, settled_pairs
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.relations import similarities
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class SP(Objective[nn.Module]):
    """|G_t - G_s|_F^2 / B^2, with G the inner products of the batch's maps, rows at length 1.

    Section 3. Each row of the B x B matrix is divided by its Euclidean length; widths and
    resolutions of the two layers need not match. The loss is the sum over all pairs of layers.
    The literature's weight is 3000 on 8x8 maps of CIFAR, and ruinous on smaller ones: take
    `weight: auto` elsewhere.

    Args:
        layers: pairs of modules; "auto" is the last map before pooling.
    """

    reads: ClassVar[LayerKind | None] = "last_map"

    layers: Layers = "auto"

    def needs(self) -> Needs:
        """Maps, of a whole batch at once."""
        return pair_needs(self.layers, Needs(scope="batch"))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a batch."""
        del aux
        losses = []
        for ours, theirs in settled_pairs(self):
            s = similarities(flat_rows(student.tap(ours), batch))
            t = similarities(flat_rows(teacher.tap(theirs).detach(), batch))
            losses.append((t - s).square().sum() / max(1, len(s)) ** 2)
        return {"sp": Term(torch.stack(losses).sum(), per="batch")}
