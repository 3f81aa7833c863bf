"""Makoto Shing, Kou Misaki, Han Bao, Sho Yokoi, Takuya Akiba.

"TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in Language
Models". ICLR, 2025. arXiv:2501.16937.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.errors import NeedsError
from preceptor.fields import Fraction, OpenFraction, Positive
from preceptor.needs import named_masks
from preceptor.objectives.base import Objective
from preceptor.ops.divergences import kl_between_logs, log_probs_of
from preceptor.types import Batch, Context, Needs, Outputs, Progress, Signal, Term, Terms


@final
class Interpolation(nn.Module):
    """How far the target has gone from the student to the teacher: buffers alone, so saved as such.

    t: the teacher's share. momentum: of the loss's relative change. loss: of the last step; -1
    before the first.
    """

    t: Float[Tensor, ""]
    momentum: Float[Tensor, ""]
    loss: Float[Tensor, ""]

    def __init__(self, start: float) -> None:
        super().__init__()
        for name, value in (("t", start), ("momentum", 0.0), ("loss", -1.0)):
            self.register_buffer(name, torch.tensor(value))


@final
@dataclass(frozen=True)
class TAID(Objective[Interpolation]):
    """KL(p_t || q) with p_t = softmax((1 - t) sg(z_q) + t z_p), t moving from `start` to `end`.

    The target lies between the student, without gradient, and the teacher, in logits;
    z are logits divided by T. After each optimiser step (algorithm 1), with L the step's mean loss:

        change = (L_before - L) / L_before
        m = momentum m + (1 - momentum) change
        t = min(end, max(start + (end - start) step / steps, t + rate sigmoid(m) (1 - t)))

    The first step's loss is only remembered, as in the authors' code. t moves with the loss, so a
    loss of 0 counts as no change. A student whose logits rule out what the target has is infinitely
    far off, as with forward KL. No T^2, as in the paper.

    Args:
        start: the first t; 0.4 in the authors' code.
        end: the last t.
        rate: of the adaptive step, the paper's alpha.
        momentum: the share of the old momentum that is kept, the paper's beta.
        temperature: T; 1 in the paper.
        over: which positions count: "all", or a mask that the data names ("teacher_written").
    """

    start: Fraction = 0.4
    end: Fraction = 1.0
    rate: Fraction = 5e-4
    momentum: OpenFraction = 0.99
    temperature: Positive = 1.0
    over: str = "all"

    def needs(self) -> Needs:
        """The probability of every class at T."""
        return Needs(
            kinds=frozenset({"probabilities"}),
            temperatures=frozenset({self.temperature}),
            masks=named_masks(self.over),
            linear=False,
        )

    def auxiliary(self, context: Context) -> Interpolation:
        """t at its start."""
        del context
        return Interpolation(self.start)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: Interpolation) -> Terms:
        """One divergence a position."""
        del batch
        q = log_probs_of(student.logits, self.temperature)
        with torch.no_grad():
            # Logits and log-probabilities differ by a constant a position, which cancels.
            p = teacher.whole.log_probs(self.temperature)
            target = torch.log_softmax(_part(q, 1 - aux.t) + _part(p, aux.t), dim=-1)
        return {"taid": Term(kl_between_logs(target, q), over=self.over)}

    @torch.no_grad()
    def advance(
        self,
        aux: Interpolation,
        remembered: Mapping[str, Tensor],
        losses: Mapping[str, float],
        at: Progress,
    ) -> None:
        """Move t once, by the loss of the step that was just done."""
        del remembered
        if "taid" not in losses:
            raise NeedsError(
                "taid's t was moved without this step's loss",
                "t follows the loss",
                'Call `advance(aux, {}, {"taid": mean}, progress)` after each optimiser step.',
            )
        before, loss = float(aux.loss), losses["taid"]
        aux.loss.fill_(loss)
        if before < 0:
            return
        change = (before - loss) / before if before > 0 else 0.0
        momentum = self.momentum * float(aux.momentum) + (1 - self.momentum) * change
        now = float(aux.t)
        line = self.start + (self.end - self.start) * at.fraction
        adaptive = now + self.rate * _sigmoid(momentum) * (1 - now)
        aux.momentum.fill_(momentum)
        aux.t.fill_(min(self.end, max(line, adaptive)))


def _part(logs: Float[Tensor, "*n v"], share: Float[Tensor, ""]) -> Float[Tensor, "*n v"]:
    # 0 times what a side rules out is 0 here, not NaN.
    return torch.where(share > 0, share * logs, 0.0)


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
