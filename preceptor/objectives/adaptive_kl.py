"""Taiqiang Wu, Chaofan Tao, Jiahao Wang, Runming Yang, Zhe Zhao, Ngai Wong.

"Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models".
COLING, 2025. arXiv:2404.02657.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor.fields import OpenFraction, Positive
from preceptor.objectives._bins import bins
from preceptor.objectives.base import Objective
from preceptor.ops.closed_forms import ClosedForm
from preceptor.ops.divergences import adaptive_kl_between_logs
from preceptor.ops.pairing import paired
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class AdaptiveKL(Objective[nn.Module]):
    """g_h / (g_h + g_t) KL(p || q) + g_t / (g_h + g_t) KL(q || p).

    p is the teacher's distribution, q the student's, both at T. Early on forward KL moves the head
    of the vocabulary first and reverse KL its tail, so each is weighted by how far q is off there:
    g_h is sum |p - q| over the head, the teacher's most likely classes until half of its mass, g_t
    over all others. These weights have no gradient. Of a teacher's largest classes with the mass of
    the rest, the rest lies in the tail. No T^2, as in the paper.

    Args:
        head: the teacher's mass at which the head ends; 0.5 in the paper.
        temperature: T of both distributions; 1 in the paper.
        over: which positions count: "all", or a mask that the data names ("student_written").
    """

    head: OpenFraction = 0.5
    temperature: Positive = 1.0
    over: str = "all"

    def needs(self) -> Needs:
        """Probabilities at T, of the largest classes at least."""
        return bins(self.temperature, self.over)

    def closed_form(self) -> ClosedForm:
        """The adaptive KL at T."""
        return ClosedForm("adaptive_kl", self.temperature, self.head, over=self.over)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position."""
        del batch, aux
        both = paired(teacher.distribution, student.logits, self.temperature)
        values = adaptive_kl_between_logs(
            teacher=both.teacher, student=both.student, head=self.head, rest=both.rest
        )
        return {"adaptive_kl": Term(values, over=self.over)}
