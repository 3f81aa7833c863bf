"""Yuxian Gu, Li Dong, Furu Wei, Minlie Huang.

"MiniLLM: Knowledge Distillation of Large Language Models". ICLR, 2024. arXiv:2306.08543.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor.fields import Positive
from preceptor.objectives._bins import bins
from preceptor.objectives.base import Objective
from preceptor.ops.closed_forms import ClosedForm
from preceptor.ops.divergences import kl_between_logs
from preceptor.ops.pairing import paired
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class ReverseKL(Objective[nn.Module]):
    """KL(q || p) with q = softmax(student / T), p = softmax(teacher / T).

    It seeks modes: the student is punished for what the teacher finds unlikely. On text that the
    student wrote itself this is GKD at beta = 1, and the single-step part of MiniLLM without its
    weights; `MiniLLM` adds the part that looks ahead. No T^2, as there.

    Infinite where the student gives mass to what the teacher rules out.

    Args:
        temperature: T; 1 in the papers.
        over: which positions count: "all", or a mask that the data names ("student_written").
    """

    temperature: Positive = 1.0
    over: str = "all"

    def needs(self) -> Needs:
        """Probabilities at T, of the largest classes at least."""
        return bins(self.temperature, self.over)

    def closed_form(self) -> ClosedForm:
        """Reverse KL at T."""
        return ClosedForm("reverse_kl", self.temperature, over=self.over)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position."""
        del batch, aux
        both = paired(teacher.distribution, student.logits, self.temperature)
        return {"reverse_kl": Term(kl_between_logs(both.student, both.teacher), over=self.over)}
