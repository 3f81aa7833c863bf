"""Adriana Romero, Nicolas Ballas, Samira Ebrahimi Kahou, Antoine Chassang, Carlo Gatta, Y. Bengio.

"FitNets: Hints for Thin Deep Nets". ICLR 2015. arXiv:1412.6550.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import nn

from preceptor.objectives._adapters import (
    Activation,
    activated,
    added,
    counting_rows,
    kept,
    regressed,
    regressors,
    tapped_maps,
    valid_convolution,
)
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import squared_difference
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class FitNets(Objective[nn.ModuleList]):
    """1/2 ||F_t - r(F_s)||^2: the hint (equation 3), summed over the map, one number an example.

    It is C H W / 2 times the mean over the map that later code takes. F_t is the teacher's hint
    layer, F_s the student's guided layer, r a convolution without padding whose kernel is
    H_s - H_t + 1, followed by the hint's own non-linearity. r trains with the student and is left
    behind.

    This is the first stage of the paper's two. There it trains alone, and only the student up to
    the guided layer (the stage's `trainable` globs). The second stage is cross-entropy plus KD at
    temperature 3 whose weight falls from 4 to 1, on the whole student. Both together in one stage
    are `fitnets_onestage`.

    Args:
        layers: (guided, hint) pairs; the paper has one, the middle layers. "auto" is that.
        activation: what follows r; "none" for a hint that is taken before a non-linearity.
    """

    reads: ClassVar[LayerKind | None] = "middle"

    layers: Layers = "auto"
    activation: Activation = "relu"

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def auxiliary(self, context: Context) -> nn.ModuleList:
        """One regressor a pair. Raises `ModelError` where the student's map is the smaller."""
        return regressors(
            self.layers,
            context.student,
            context.teacher,
            lambda pair: activated(valid_convolution(pair), activation=self.activation),
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        """One number an example, added over the pairs."""
        rows = counting_rows(batch)
        pairs = tapped_maps(self.layers, student, teacher)
        distances = [
            squared_difference(regressed(regressor, kept(ours, rows)), kept(theirs, rows))
            for regressor, (_, ours, theirs) in zip(aux, pairs, strict=True)
        ]
        hints = [0.5 * distance.flatten(1).sum(dim=1) for distance in distances]
        return {"fitnets": Term(added(hints), per="example")}
