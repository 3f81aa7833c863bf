"""Jongwoo Ko, Tianyi Chen, Sungnyun Kim, Tianyu Ding, Luming Liang and others.

"DistiLLM-2: A Contrastive Approach Boosts the Distillation of LLMs". ICML, 2025.
arXiv:2503.07067.
"""

from dataclasses import dataclass
from typing import Annotated, final

from annotated_types import Ge, Le
from torch import nn

from preceptor.fields import OpenFraction, Positive
from preceptor.needs import named_masks
from preceptor.objectives._bins import bins
from preceptor.objectives.base import Objective
from preceptor.ops.divergences import skew_kl_between_logs, skew_reverse_kl_between_logs
from preceptor.ops.pairing import paired
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class DistiLLM2(Objective[nn.Module]):
    """(2 - b) KL(p || a p + (1 - a) q) on teacher's text + b KL(q || (1 - a) p + a q) on its own.

    The skewed KL pulls what the teacher wrote up (counted over the mask "teacher_written"), the
    skewed reverse KL pushes what the student wrote down ("student_written"). Each is the mean over
    all of its tokens in the optimiser step; the authors' code takes the mean over each response's
    tokens first, so that short responses weigh more there. It also takes the student's part of the
    mixture in the second term as fixed, where the gradient here is the whole one, and has the
    paper's schedules of a (by example) and b switched off. A b that moves:
    `SkewKL(over="teacher_written") + Ramp(...) * SkewReverseKL(over="student_written")`.

    Args:
        skew: a, in both terms: the share of the side that is compared with the mixture.
        beta: b, the weight of the student's own text.
        temperature: T; 1 in the paper.
    """

    skew: OpenFraction = 0.1
    beta: Annotated[float, Ge(0), Le(2)] = 1.0
    temperature: Positive = 1.0

    def needs(self) -> Needs:
        """Probabilities at T, of the largest classes at least, and who wrote each token."""
        both = named_masks("teacher_written") | named_masks("student_written")
        return bins(self.temperature, "all") | Needs(masks=both)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """Two divergences a position; each counts on the text of one side."""
        del batch, aux
        both = paired(teacher.distribution, student.logits, self.temperature)
        up = skew_kl_between_logs(teacher=both.teacher, student=both.student, skew=self.skew)
        down = skew_reverse_kl_between_logs(
            teacher=both.teacher, student=both.student, skew=self.skew
        )
        return {
            "distillm2.teacher": Term(up, over="teacher_written", weight=2 - self.beta),
            "distillm2.student": Term(down, over="student_written", weight=self.beta),
        }
