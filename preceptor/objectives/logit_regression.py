"""Lei Jimmy Ba, Rich Caruana.

"Do Deep Nets Really Need to be Deep?". NeurIPS, 2014. arXiv:1312.6184.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor.objectives.base import Objective
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class LogitRegression(Objective[nn.Module]):
    """mean_k (s_k - t_k)^2 over the K classes, for student logits s and teacher logits t.

    Unlike the paper (its equation 1 is half of the sum), the mean over classes, so that a weight
    holds for any K. KD with large T tends to the same gradient up to the factor 1/2 once both
    sides are centred: T^2 KL -> sum_k (s_k - t_k)^2 / (2 K).

    Args:
        centred: subtract from both sides their mean over the classes, which changes no
            probability. That is the exact limit of KD, and right for a teacher whose logits are
            known up to a constant only; off, as in the paper, the student also learns the
            teacher's constant.
    """

    centred: bool = False

    def needs(self) -> Needs:
        """Raw logits."""
        return Needs(kinds=frozenset({"logits"}), linear=False)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a position."""
        del batch, aux
        difference = at_least_float32(student.logits) - at_least_float32(teacher.logits.detach())
        if self.centred:
            difference = difference - difference.mean(dim=-1, keepdim=True)
        return {"logit_regression": Term(difference.square().mean(dim=-1))}
