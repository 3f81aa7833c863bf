"""Jongwoo Ko, Sungnyun Kim, Tianyi Chen, Se-Young Yun.

"DistiLLM: Towards Streamlined Distillation for Large Language Models". ICML, 2024.
arXiv:2402.03898.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor.fields import OpenFraction, Positive
from preceptor.objectives._bins import bins
from preceptor.objectives.base import Objective
from preceptor.ops.closed_forms import ClosedForm
from preceptor.ops.divergences import skew_kl_between_logs
from preceptor.ops.pairing import paired
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class SkewKL(Objective[nn.Module]):
    """KL(p || a p + (1 - a) q) with p = softmax(teacher / T), q = softmax(student / T).

    Section 3.1: forward KL whose denominator never falls below a p, so that value and gradient stay
    bounded (by -log a) where the student gives almost nothing to what the teacher finds likely.
    Near q = p it is (1 - a)^2 KL. The authors' code leaves the teacher's entropy out; the gradient
    is the same. No T^2, as there.

    Args:
        skew: a, the teacher's share of the mixture; 0.1 in the paper.
        temperature: T; 1 in the paper.
        over: which positions count: "all", or a mask that the data names ("teacher_written").
    """

    skew: OpenFraction = 0.1
    temperature: Positive = 1.0
    over: str = "all"

    def needs(self) -> Needs:
        """Probabilities at T, of the largest classes at least."""
        return bins(self.temperature, self.over)

    def closed_form(self) -> ClosedForm:
        """The skewed KL at T."""
        return ClosedForm("skew_kl", self.temperature, self.skew, over=self.over)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position."""
        del batch, aux
        both = paired(teacher.distribution, student.logits, self.temperature)
        values = skew_kl_between_logs(teacher=both.teacher, student=both.student, skew=self.skew)
        return {"skew_kl": Term(values, over=self.over)}
