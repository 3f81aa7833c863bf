"""Rishabh Agarwal, Nino Vieillard, Yongchao Zhou, Piotr Stanczyk, Sabela Ramos Garea and others.

"On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes". ICLR, 2024.
arXiv:2306.13649.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor.fields import Fraction, Positive
from preceptor.objectives._bins import bins
from preceptor.objectives.base import Objective
from preceptor.ops.closed_forms import ClosedForm
from preceptor.ops.divergences import jensen_shannon_between_logs
from preceptor.ops.pairing import forward_kl_to, paired
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class GKD(Objective[nn.Module]):
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q: equation 1.

    p is the teacher's distribution, q the student's, both at T. beta = 0 is KL(p || q), beta = 1
    KL(q || p). In between the loss fades towards either end: near q = p it is beta (1 - beta) KL,
    so that 0.01 learns 25 times more slowly than 0.5 and 100 times more slowly than 0. `normalised`
    takes this factor out; then the ends are limits and not jumps.

    The share of student-written text (the paper's lambda) is a matter of the data. No T^2, as in
    the paper and in TRL, whose temperature is that of sampling alone; here it is the loss's.

    Args:
        beta: the teacher's share of the mixture; 0.1, 0.5 and 0.9 in the paper.
        normalised: divide by beta (1 - beta), except at 0 and 1.
        temperature: T; 1 in the paper.
        over: which positions count: "all", or a mask that the data names ("student_written").
    """

    beta: Fraction = 0.5
    normalised: bool = False
    temperature: Positive = 1.0
    over: str = "all"

    def needs(self) -> Needs:
        """Probabilities at T, of the largest classes at least; at beta = 0 draws will do."""
        return bins(self.temperature, self.over, linear=self.beta == 0)

    def closed_form(self) -> ClosedForm:
        """One of the two KL divergences, or the one between."""
        if self.beta in (0, 1):
            kind = "forward_kl" if self.beta == 0 else "reverse_kl"
            return ClosedForm(kind, self.temperature, over=self.over)
        factor = 1 / (self.beta * (1 - self.beta)) if self.normalised else 1.0
        return ClosedForm("jensen_shannon", self.temperature, self.beta, factor, self.over)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position."""
        del batch, aux
        if self.beta == 0:
            values = forward_kl_to(teacher.distribution, student.logits, self.temperature)
            return {"gkd": Term(values, over=self.over)}
        both = paired(teacher.distribution, student.logits, self.temperature)
        values = jensen_shannon_between_logs(
            teacher=both.teacher,
            student=both.student,
            beta=self.beta,
            normalised=self.normalised,
        )
        return {"gkd": Term(values, over=self.over)}
