"""Wenhui Wang, Hangbo Bao, Shaohan Huang, Li Dong, Furu Wei.

"MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
Transformers". Findings of ACL 2021. arXiv:2012.15828.

Dimension key: b examples, t tokens, d and e widths, r relation heads.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

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
    kept,
    require_apart,
    tapped,
    token_term,
)
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.streamed import streamed
from preceptor.types import Batch, Needs, Outputs, Signal, Terms


@final
@dataclass(frozen=True)
class MiniLM(Objective[nn.Module]):
    """How tokens relate among queries, among keys and among values: equations 5 to 8.

    One block's vectors are cut into relation heads anew, whatever its own heads are, so student
    and teacher need neither equal widths nor equally many heads. R = softmax(A A^T / sqrt(d_r))
    over tokens, for A the queries, keys or values of one relation head and d_r its width;
    KL(R teacher || R student), the mean over heads and counting tokens, added over the three: one
    number an example.

    Padding is attended to by nobody. Vectors are read before positions rotate them. Grouped heads'
    narrower keys and values are cut alike.

    Args:
        layers: pairs of taps that hold [B, T, D], each compared by its own relations; "auto" is
            queries, keys and values of the student's last block and of one of the teacher's.
        heads: how many relation heads; the paper's 48 for a base-size teacher, 64 for a large one.
            It must divide the widths of both.
        teacher_block: which of the teacher's blocks "auto" reads, counted as Python does: -1 is
            the last; the paper takes one somewhat below the last of large teachers.
    """

    reads: ClassVar[LayerKind | None] = "relations"

    layers: Layers = "auto"
    heads: Count = 48
    teacher_block: int = -1

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One mean an example, added over the pairs."""
        del aux
        require_apart(batch, "minilm")
        distances: list[Tensor] = []
        for pair in tapped(self.layers, student, teacher):
            _check(pair, self.heads)
            rows = counting_tokens(batch, pair.student, pair.words)
            if rows is None:
                rows = torch.ones(pair.student.shape[:2], dtype=torch.bool).to(student.device)
            columns = attended(batch, rows)
            relate = partial(_relations, columns=columns, heads=self.heads)
            theirs = relate(pair.teacher).exp()
            distance = partial(_divergence, relate=relate, theirs=theirs, rows=rows)
            distances.append(streamed(distance, pair.student))
        return {"minilm": token_term(added(distances), batch)}


def _relations(
    vectors: Float[Tensor, "b t d"], columns: Bool[Tensor, "b t"], heads: int
) -> Float[Tensor, "b r t t"]:
    """The logarithm of each token's relations to those that can be attended to."""
    split = kept(vectors, columns).unflatten(-1, (heads, -1)).transpose(1, 2)
    scores = split @ split.mT / math.sqrt(split.shape[-1])
    # Where nothing can be attended to nothing counts, and NaN would stay.
    there = columns | ~columns.any(dim=1, keepdim=True)
    return scores.masked_fill(~there[:, None, None], -torch.inf).log_softmax(dim=-1)


def _divergence(
    ours: Float[Tensor, "b t d"],
    relate: "partial[Float[Tensor, 'b r t t']]",
    theirs: Float[Tensor, "b r t t"],
    rows: Bool[Tensor, "b t"],
) -> Float[Tensor, " b"]:
    """KL(theirs || ours), the mean over relation heads and counting rows."""
    log_q = relate(ours)
    counting = rows[:, None, :, None] & (theirs > 0)
    # Before the product: 0 * -inf where nobody attends.
    each = torch.xlogy(theirs, theirs) - theirs * torch.where(counting, log_q, 0.0)
    sums = torch.where(counting, each, 0.0).sum(dim=(1, 2, 3))
    return sums / (theirs.shape[1] * rows.sum(dim=1).clamp_min(1))


def _check(pair: Tapped, heads: int) -> None:
    words, ours, theirs = pair
    if ours.ndim != 3 or ours.shape[:2] != theirs.shape[:2]:
        raise ModelError(
            f"{words} have shapes {tuple(ours.shape)} and {tuple(theirs.shape)}",
            "relations are among the tokens of [B, T, D], the same on both sides",
            "Tap what makes queries, keys or values in two models that read the same tokens.",
        )
    widths = ours.shape[-1], theirs.shape[-1]
    if any(width % heads for width in widths):
        raise ModelError(
            f"{words} are {widths[0]} and {widths[1]} wide",
            f"{heads} relation heads do not divide both",
            f"Set `heads` to a divisor of {math.gcd(*widths)}.",
        )
