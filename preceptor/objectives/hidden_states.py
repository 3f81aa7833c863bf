"""Xiaoqi Jiao, Yichun Yin, Lifeng Shang, Xin Jiang, Xiao Chen, Linlin Li, Fang Wang, Qun Liu.

"TinyBERT: Distilling BERT for Natural Language Understanding". Findings of EMNLP 2020.
arXiv:1909.10351.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

from jaxtyping import Bool, Float
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.fields import Count
from preceptor.objectives._adapters import (
    added,
    counting_tokens,
    kept,
    regressed,
    tapped,
    token_term,
)
from preceptor.objectives.base import LayerKind, Layers, Objective, Pairing, pair_needs
from preceptor.ops.maps import squared_difference
from preceptor.ops.streamed import streamed
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Terms


@final
@dataclass(frozen=True)
class HiddenStates(Objective[nn.ModuleList]):
    """MSE(H_s W, H_t): equation 8, the mean over width and over the tokens that count.

    Added over the pairs; every token that counts weighs the same. W is linear, trains with the
    student and is left behind. Unlike the paper, there is no W between layers of equal width, where
    it would let the student turn its space freely. Padding does not count: see `Batch.mask`, and
    where that has one number an example, the `attention_mask` among the inputs. A language model's
    tokens count where they are scored. One pair at a time is compared: see `ops.streamed`.

    Args:
        layers: pairs of transformer blocks; "auto" finds them.
        pairing: which blocks "auto" pairs: "uniform" spreads them over both models, "last" takes
            the last ones, "similar" those that see most alike on a few examples (centered kernel
            alignment), in order.
        pairs: how many; where not given, as many as the shallower model has blocks.
    """

    reads: ClassVar[LayerKind | None] = "hidden"

    layers: Layers = "auto"
    pairing: Pairing = "uniform"
    pairs: Count | None = None

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
        """One mean an example, added over the pairs."""
        distances: list[Tensor] = []
        pairs = tapped(self.layers, student, teacher)
        for projection, (words, ours, theirs) in zip(aux, pairs, strict=True):
            _check(words, ours, theirs)
            tokens = counting_tokens(batch, ours, words)
            mapped = regressed(projection, kept(ours, tokens))
            distances.append(streamed(partial(_distance, theirs=theirs, tokens=tokens), mapped))
        return {"hidden_states": token_term(added(distances), batch)}


def _distance(
    ours: Float[Tensor, "b t d"], theirs: Float[Tensor, "b t d"], tokens: Bool[Tensor, "b t"] | None
) -> Float[Tensor, " b"]:
    # Without a bias, zeros on both sides stay at no distance.
    distance = squared_difference(ours, kept(theirs, tokens)).mean(dim=-1)
    if tokens is None:
        return distance.mean(dim=1)
    return distance.sum(dim=1) / tokens.sum(dim=1).clamp_min(1)


def _check(words: str, ours: Tensor, theirs: Tensor) -> None:
    if ours.ndim != 3 or ours.shape[:2] != theirs.shape[:2]:
        raise ModelError(
            f"{words} have shapes {tuple(ours.shape)} and {tuple(theirs.shape)}",
            "hidden states are [B, T, D] on both sides, with the same tokens",
            "Pair blocks of two transformers that read the same tokens; for maps use `fitnets`.",
        )
