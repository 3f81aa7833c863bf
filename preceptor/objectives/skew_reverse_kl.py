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
from preceptor.ops.divergences import skew_reverse_kl_between_logs
from preceptor.ops.pairing import paired
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class SkewReverseKL(Objective[nn.Module]):
    """KL(q || (1 - a) p + a q) with q = softmax(student / T), p = softmax(teacher / T).

    Section 3.1: reverse KL that stays bounded (by -log a) where the student gives mass to what the
    teacher finds almost impossible, or rules out. Near q = p it is (1 - a)^2 KL. The mixture's
    part of the gradient is kept, as in the paper's code. No T^2, as there.

    Args:
        skew: a, the student's share of the mixture; 0.1 in the paper.
        temperature: T; 1 in the paper.
        over: which positions count: "all", or a mask that the data names ("student_written").
    """

    skew: OpenFraction = 0.1
    temperature: Positive = 1.0
    over: str = "all"

    def needs(self) -> Needs:
        """Probabilities at T, of the largest classes at least."""
        return bins(self.temperature, self.over)

    def closed_form(self) -> ClosedForm:
        """The skewed reverse KL at T; its parameter is the teacher's share."""
        return ClosedForm("skew_reverse_kl", self.temperature, 1 - self.skew, over=self.over)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position."""
        del batch, aux
        both = paired(teacher.distribution, student.logits, self.temperature)
        values = skew_reverse_kl_between_logs(
            teacher=both.teacher, student=both.student, skew=self.skew
        )
        return {"skew_reverse_kl": Term(values, over=self.over)}
