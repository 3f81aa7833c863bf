"""Yonglong Tian, Dilip Krishnan, Phillip Isola.

"Contrastive Representation Distillation". ICLR 2020. arXiv:1910.10699. Its tables' "FitNet", which
later CIFAR tables keep, is this one-stage variant of the hint of Romero et al., arXiv:1412.6550.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import nn

from preceptor.objectives._adapters import (
    Activation,
    BatchNorm,
    Tapped,
    activated,
    added,
    counting_rows,
    kept,
    matching_convolution,
    regressed,
    regressors,
    tapped_maps,
)
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import squared_difference
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class FitNetsOneStage(Objective[nn.ModuleList]):
    """mean (F_t - r(F_s))^2: the hint beside the task's loss, one number an example.

    r is a convolution (1x1 between equal sizes, 3x3 with stride 2 where the student's map is twice
    as large, transposed where it is half as large), batch normalisation and ReLU.

    Unlike the paper of FitNets, there is one stage, the mean over the map instead of half its sum,
    and normalisation in r; `fitnets` is the paper's. CIFAR tables give this term a weight of 100.
    r normalises over the batch it is given while it trains, as a student with batch normalisation
    does: there, micro-batches and processes change its numbers. Examples that do not count enter
    those statistics as zeros.

    Args:
        layers: (guided, hint) pairs; "auto" is the middle layers.
        activation: what ends r; "none" for a hint that is taken before a non-linearity.
    """

    reads: ClassVar[LayerKind | None] = "middle"

    layers: Layers = "auto"
    activation: Activation = "relu"

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def auxiliary(self, context: Context) -> nn.ModuleList:
        """One regressor a pair. Raises `ModelError` where no convolution fits the two sizes."""
        return regressors(self.layers, context.student, context.teacher, self._regressor)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        """One number an example, added over the pairs."""
        rows = counting_rows(batch)
        pairs = tapped_maps(self.layers, student, teacher)
        distances = [
            squared_difference(regressed(regressor, kept(ours, rows)), kept(theirs, rows))
            for regressor, (_, ours, theirs) in zip(aux, pairs, strict=True)
        ]
        hints = [distance.flatten(1).mean(dim=1) for distance in distances]
        return {"fitnets_onestage": Term(added(hints), per="example")}

    def _regressor(self, pair: Tapped) -> nn.Module:
        convolution = matching_convolution(pair)
        norm = BatchNorm(pair.teacher.shape[1])
        return activated(convolution, norm, activation=self.activation)
