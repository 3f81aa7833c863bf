"""Yuqiao Wen, Zichao Li, Wenyu Du, Lili Mou.

"f-Divergence Minimization for Sequence-Level Knowledge Distillation". ACL, 2023.
arXiv:2307.15190.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor.fields import Positive
from preceptor.objectives._bins import bins
from preceptor.objectives.base import Objective
from preceptor.ops.closed_forms import ClosedForm
from preceptor.ops.divergences import total_variation_between_logs
from preceptor.ops.pairing import paired
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class TotalVariation(Objective[nn.Module]):
    """1/2 sum |p - q| with p = softmax(teacher / T), q = softmax(student / T).

    The paper's loss, step by step. It lies between 0 and 1, cares as much for what is missing
    as for what is too much, and has almost no gradient where the student is sure and wrong. No
    T^2, as in the paper.

    Args:
        temperature: T; 1 in the paper.
        over: which positions count: "all", or a mask that the data names ("student_written").
    """

    temperature: Positive = 1.0
    over: str = "all"

    def needs(self) -> Needs:
        """Probabilities at T, of the largest classes at least."""
        return bins(self.temperature, self.over)

    def closed_form(self) -> ClosedForm:
        """Total variation at T."""
        return ClosedForm("total_variation", self.temperature, over=self.over)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One distance a position."""
        del batch, aux
        both = paired(teacher.distribution, student.logits, self.temperature)
        values = total_variation_between_logs(teacher=both.teacher, student=both.student)
        return {"total_variation": Term(values, over=self.over)}
