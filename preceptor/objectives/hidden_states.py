"""Xiaoqi Jiao, Yichun Yin, Lifeng Shang, Xin Jiang, Xiao Chen, Linlin Li, Fang Wang, Qun Liu.

"TinyBERT: Distilling BERT for Natural Language Understanding". Findings of EMNLP 2020.
arXiv:1909.10351.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.objectives._adapters import (
    added,
    counting_tokens,
    kept,
    regressed,
    tapped,
)
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import squared_difference
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class HiddenStates(Objective[nn.ModuleList]):
    """MSE(H_s W, H_t): equation 8, the mean over width and over the tokens that count.

    One number an example, added over the pairs. W is linear, trains with the student and is left
    behind. Unlike the paper, there is no W between layers of equal width, where it would let the
    student turn its space freely. Padding does not count: see `Batch.mask`, and where that has one
    number an example, the `attention_mask` among the inputs.

    Args:
        layers: pairs of transformer blocks; "auto" spreads the student's over the teacher's.
    """

    reads: ClassVar[LayerKind | None] = "hidden"

    layers: Layers = "auto"

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def auxiliary(self, context: Context) -> nn.ModuleList:
        """One linear map a pair; nothing where widths agree."""
        pairs = tapped(self.layers, context.student, context.teacher)
        widths = [(ours.shape[-1], theirs.shape[-1]) for _, ours, theirs in pairs]
        return nn.ModuleList(
            nn.Identity() if ours == theirs else nn.Linear(ours, theirs, bias=False)
            for ours, theirs in widths
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        """One number an example, added over the pairs."""
        distances: list[Tensor] = []
        pairs = tapped(self.layers, student, teacher)
        for projection, (words, ours, theirs) in zip(aux, pairs, strict=True):
            _check(words, ours, theirs)
            tokens = counting_tokens(batch, ours, words)
            mapped = regressed(projection, kept(ours, tokens))
            # Without a bias, zeros on both sides stay at no distance.
            distance = squared_difference(mapped, kept(theirs, tokens)).mean(dim=-1)
            if tokens is None:
                distances.append(distance.mean(dim=1))
            else:
                distances.append(distance.sum(dim=1) / tokens.sum(dim=1).clamp_min(1))
        return {"hidden_states": Term(added(distances), per="example")}


def _check(words: str, ours: Tensor, theirs: Tensor) -> None:
    if ours.ndim != 3 or ours.shape[:2] != theirs.shape[:2]:
        raise ModelError(
            f"{words} have shapes {tuple(ours.shape)} and {tuple(theirs.shape)}",
            "hidden states are [B, T, D] on both sides, with the same tokens",
            "Pair blocks of two transformers that read the same tokens; for maps use `fitnets`.",
        )
