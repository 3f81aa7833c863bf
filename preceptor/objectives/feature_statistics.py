"""Jing Yang, Brais Martinez, Adrian Bulat, Georgios Tzimiropoulos.

"Knowledge distillation via adaptive instance normalization". 2020. arXiv:2003.04289.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from preceptor.objectives._adapters import (
    added,
    counting_rows,
    kept,
    pointwise,
    regressed,
    regressors,
    tapped_maps,
)
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import channel_statistics, squared_difference
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class FeatureStatistics(Objective[nn.ModuleList]):
    """||mu_s - mu_t||^2 + ||sigma_s - sigma_t||^2, summed over channels, one number an example.

    mu and sigma are each channel's mean and standard deviation over space. Where channels differ,
    a 1x1 convolution that trains with the student maps its features first. Sizes need not agree.

    This is the paper's plain matching of statistics. Unlike the paper, the loss that passes the
    student's statistics through the teacher's later layers is not part of it.

    Args:
        layers: pairs of stage outputs; "auto" is every stage.
    """

    reads: ClassVar[LayerKind | None] = "stages"

    layers: Layers = "auto"

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def auxiliary(self, context: Context) -> nn.ModuleList:
        """One adapter a pair; nothing where channels agree."""
        return regressors(self.layers, context.student, context.teacher, pointwise)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        """Two terms, one number an example each, added over the pairs."""
        rows = counting_rows(batch)
        means: list[Tensor] = []
        deviations: list[Tensor] = []
        pairs = tapped_maps(self.layers, student, teacher)
        for adapter, (_, ours, theirs) in zip(aux, pairs, strict=True):
            mean, deviation = channel_statistics(regressed(adapter, kept(ours, rows)))
            target_mean, target_deviation = channel_statistics(kept(theirs, rows))
            means.append(squared_difference(mean, target_mean).sum(dim=1))
            deviations.append(squared_difference(deviation, target_deviation).sum(dim=1))
        return {
            "feature_statistics.mean": Term(added(means), per="example"),
            "feature_statistics.deviation": Term(added(deviations), per="example"),
        }
