"""Sergey Zagoruyko, Nikos Komodakis.

"Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via
Attention Transfer". ICLR 2017. arXiv:1612.03928.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.fields import Positive
from preceptor.objectives._adapters import Tapped, added, counting_rows, kept, tapped_maps
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import attention, common_size, pooled, squared_difference
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class AttentionTransfer(Objective[nn.Module]):
    """mean over space of (a(F_s) - a(F_t))^2, a(F) = vec(mean_c |F|^p) / its length.

    Equation 2, as the authors' code has it: the squared length of the difference divided by H W,
    not half its length. The weight of 1000 that CIFAR tables use belongs to the mean and to maps
    of 32x32 to 8x8; on maps of a few positions it drowns every other term, so use `weight: auto`
    there. A larger map is averaged to the smaller one's size before its attention is taken.

    Tokens [B, T, D] are refused: which of them form a grid cannot be read from the shape.

    Args:
        layers: pairs of stage outputs; "auto" is every stage.
        exponent: p; 2 is the paper's.
    """

    reads: ClassVar[LayerKind | None] = "stages"

    layers: Layers = "auto"
    exponent: Positive = 2.0

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number an example, added over the pairs."""
        del aux
        rows = counting_rows(batch)
        pairs = tapped_maps(self.layers, student, teacher)
        distances = [squared_difference(*self._attentions(pair, rows)) for pair in pairs]
        return {
            "attention_transfer": Term(added([d.mean(dim=1) for d in distances]), per="example")
        }

    def _attentions(self, pair: Tapped, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        words, ours, theirs = pair
        size = common_size((ours, theirs))
        if size == (1, 1):
            raise ModelError(
                f"{words} meet at one position",
                "its attention is 1 whatever the map holds, so nothing would be learned",
                "Pair layers with more positions.",
            )
        target = kept(attention(pooled(theirs, size), self.exponent), rows)
        return attention(pooled(ours, size), self.exponent), target
