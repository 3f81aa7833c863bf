"""Yuxian Gu, Li Dong, Furu Wei, Minlie Huang.

"MiniLLM: Knowledge Distillation of Large Language Models". ICLR, 2024. arXiv:2306.08543.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from preceptor.errors import NeedsError
from preceptor.fields import OpenFraction, Positive
from preceptor.objectives._bins import bins
from preceptor.objectives.base import Objective
from preceptor.ops.divergences import kl_between_logs
from preceptor.ops.pairing import log_probs_at, paired
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32

_OVER = "student_written"


@final
@dataclass(frozen=True)
class MiniLLM(Objective[nn.Module]):
    """w KL(q || p) - min(A r, A clip(r, 1 - c, 1 + c)) on text that the student wrote.

    Reverse KL of whole responses, taken apart (section 2.2). "single": what one token
    changes at once, the exact divergence over the vocabulary. "long": what it changes later, a
    policy gradient of the sampled token y,

        r = w q(y) / q_sampled(y),    w = q_sampled(y) / (mixture that y was drawn from)

    with A the advantage. The batch holds, for each position, "advantage" (A, from the returns of
    log p - log q after the token, divided by the tokens that remain, and whitened), "importance"
    (w, this token's alone and not the product) and "sampled_log_q" (log q(y) at T when it was
    drawn). All are numbers without a gradient. With one update a response and w = 1 the clip does
    nothing and the gradient of "long" is -A grad log q(y).

    The clip is of r with w inside, as in the authors' code; there "single" has no w, here it has,
    as in the paper. The pre-training part is a second method over the positions of that text:
    `MiniLLM() + CE(over="data")`, with the name that the data gives to them. No T^2, as there.

    Args:
        temperature: T of both distributions; 1 in the paper. That of sampling is the data's.
        clip: c; 0.2 in the authors' code.
    """

    signed: ClassVar[bool] = True

    temperature: Positive = 1.0
    clip: OpenFraction = 0.2

    def needs(self) -> Needs:
        """Probabilities at T, the sampled tokens, and what is known of them."""
        extra = frozenset({"advantage", "importance", "sampled_log_q"})
        return bins(self.temperature, _OVER) | Needs(labels=True, extra=extra)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """A divergence and a policy loss a position."""
        del aux
        both = paired(teacher.distribution, student.logits, self.temperature)
        read = batch.mask(_OVER) & batch.mask("labelled")
        w = _numbers(batch, "importance", read)
        single = w * torch.where(read, kl_between_logs(both.student, both.teacher), 0.0)
        return {
            "minillm.single": Term(single, over=_OVER),
            "minillm.long": Term(self._long(student, batch, read, w), over=_OVER),
        }

    def _long(
        self, student: Outputs, batch: Batch, read: Bool[Tensor, "*n"], w: Float[Tensor, "*n"]
    ) -> Float[Tensor, "*n"]:
        tokens = batch.labels.clamp_min(0).unsqueeze(-1)
        log_q = log_probs_at(student.logits, tokens, self.temperature).squeeze(-1)
        moved = torch.where(read, log_q - _numbers(batch, "sampled_log_q", read), 0.0)
        ratio = w * moved.exp()
        advantage = _numbers(batch, "advantage", read)
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        return -torch.minimum(advantage * ratio, advantage * clipped)


def _numbers(batch: Batch, name: str, read: Bool[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    if name not in batch.extra:
        raise NeedsError(
            f"minillm read the batch's {name!r}",
            f"it holds {', '.join(sorted(batch.extra)) or 'nothing further'}",
            "Use text that the student writes during training, with its returns.",
        )
    return torch.where(read, at_least_float32(batch.extra[name]).detach(), 0.0)
