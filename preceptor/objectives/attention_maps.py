"""Wenhui Wang, Furu Wei, Li Dong, Hangbo Bao, Nan Yang, Ming Zhou.

"MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
Transformers". NeurIPS 2020. arXiv:2002.10957. The squared form is of "TinyBERT: Distilling BERT
for Natural Language Understanding", Findings of EMNLP 2020, arXiv:1909.10351.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.fields import Count
from preceptor.objectives._adapters import (
    Tapped,
    added,
    attended,
    counting_tokens,
    require_apart,
    tapped,
    token_term,
)
from preceptor.objectives.base import LayerKind, Layers, Objective, Pairing, pair_needs
from preceptor.ops.maps import squared_difference
from preceptor.ops.streamed import streamed
from preceptor.types import Batch, Needs, Outputs, Signal, Terms

_LEAST_PROBABILITY = 1e-12


@final
@dataclass(frozen=True)
class AttentionMaps(Objective[nn.Module]):
    """How tokens attend to one another, compared head by head, one number an example.

    "kl" (MiniLM, equation 6): KL(teacher's row || student's row), the mean over heads and rows,
    of attention probabilities. "mse" (TinyBERT, equation 7): the mean squared difference over
    heads, rows and columns, of scores before the softmax and before any mask is added, or of
    probabilities: whatever the taps hold.

    Where one net has a multiple of the other's heads, neighbouring heads are averaged. Rows of
    tokens that do not count, and in "mse" columns of padding, are left out. Fused attention
    kernels never hold these maps: load such a model with eager attention. Many models show what
    attention dropout has left: set it to 0 in the student, for "kl" punishes each dropped entry
    as one ruled out. One pair's maps at a time are compared: see `ops.streamed`.

    Args:
        layers: pairs of taps that hold [B, heads, T, T]; "auto" is the blocks' attention maps.
        form: "kl" or "mse".
        pairing: which blocks "auto" pairs: "uniform" spreads them over both models, "last" takes
            the last ones, "similar" those that attend most alike on a few examples (centered
            kernel alignment), in order.
        pairs: how many; where not given, as many as the shallower model has blocks. MiniLM is
            "last" with 1.
    """

    reads: ClassVar[LayerKind | None] = "attention"

    layers: Layers = "auto"
    form: Literal["kl", "mse"] = "kl"
    pairing: Pairing = "uniform"
    pairs: Count | None = None

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One mean an example, added over the pairs."""
        del aux
        if self.form == "mse":  # Its mean is over columns too.
            require_apart(batch, "attention_maps with form mse")
        distance = _divergence if self.form == "kl" else _squared
        distances: list[Tensor] = []
        for pair in tapped(self.layers, student, teacher):
            ours, theirs = _regrouped(pair)
            tokens = counting_tokens(batch, ours[:, 0], pair.words)
            if tokens is None:
                tokens = torch.ones_like(ours[:, 0, 0], dtype=torch.bool)
            columns = attended(batch, tokens)
            distances.append(
                streamed(partial(distance, theirs=theirs, rows=tokens, columns=columns), ours)
            )
        return {"attention_maps": token_term(added(distances), batch)}


def _divergence(
    ours: Float[Tensor, "b k t t"],
    theirs: Float[Tensor, "b k t t"],
    rows: Bool[Tensor, "b t"],
    columns: Bool[Tensor, "b t"],
) -> Float[Tensor, " b"]:
    """KL(theirs || ours), the mean over heads and counting rows."""
    del columns
    counting = rows[:, None, :, None]
    # Before the logarithm: a row that does not count may hold anything.
    p, q = torch.where(counting, theirs, 1.0), torch.where(counting, ours, 1.0)
    each = torch.xlogy(p, p) - torch.xlogy(p, q.clamp_min(_LEAST_PROBABILITY))
    return each.sum(dim=(1, 2, 3)) / (ours.shape[1] * rows.sum(dim=1).clamp_min(1))


def _squared(
    ours: Float[Tensor, "b k t t"],
    theirs: Float[Tensor, "b k t t"],
    rows: Bool[Tensor, "b t"],
    columns: Bool[Tensor, "b t"],
) -> Float[Tensor, " b"]:
    """(ours - theirs)^2, the mean over heads and counting rows and columns."""
    entries = (rows[:, None, :, None] & columns[:, None, None, :]).expand_as(ours)
    each = squared_difference(torch.where(entries, ours, 0.0), torch.where(entries, theirs, 0.0))
    count = ours.shape[1] * rows.sum(dim=1) * columns.sum(dim=1)
    return each.sum(dim=(1, 2, 3)) / count.clamp_min(1)


def _regrouped(pair: Tapped) -> tuple[Float[Tensor, "b k t t"], Float[Tensor, "b k t t"]]:
    """Both nets' maps with the smaller number of heads."""
    words, ours, theirs = pair
    square = ours.ndim == theirs.ndim == 4 and ours.shape[2] == ours.shape[3]
    if not square or ours.shape[2:] != theirs.shape[2:]:
        raise ModelError(
            f"{words} have shapes {tuple(ours.shape)} and {tuple(theirs.shape)}",
            "attention maps are [B, heads, T, T] on both sides, with the same tokens",
            "Tap the maps themselves (for example `vit.layers.3.attention:output[1]`).",
        )
    fewer, more = sorted((ours.shape[1], theirs.shape[1]))
    if more % fewer:
        raise ModelError(
            f"{words} have {ours.shape[1]} and {theirs.shape[1]} heads",
            "heads are averaged in groups of equal size, and neither number divides the other",
            "Use `hidden_states`, or a student with a divisor of the teacher's heads.",
        )
    return _averaged(ours, fewer), _averaged(theirs, fewer)


def _averaged(maps: Float[Tensor, "b heads t t"], heads: int) -> Float[Tensor, "b k t t"]:
    return maps if maps.shape[1] == heads else maps.unflatten(1, (heads, -1)).mean(dim=2)
