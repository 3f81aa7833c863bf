"""Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna.

"Rethinking the Inception Architecture for Computer Vision". CVPR, 2016. arXiv:1512.00567.
"""

from dataclasses import dataclass
from typing import final

from torch import nn
from torch.nn import functional as F

from preceptor.fields import Fraction
from preceptor.objectives.base import Objective
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class LabelSmoothing(Objective[nn.Module]):
    """-sum_k ((1 - amount) [k = y] + amount / K) log q_k with q = softmax(student).

    Section 7. Cross-entropy against a teacher that knows only to be less sure: the control for
    what a real teacher adds. Counted over labelled positions; it replaces `CE`.

    Args:
        amount: the share of the target that is spread evenly over all K classes, y among them.
    """

    amount: Fraction = 0.1

    def needs(self) -> Needs:
        """Labels."""
        return Needs(labels=True)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a labelled position."""
        del teacher, aux
        logits = at_least_float32(student.logits)
        labels = batch.labels.clamp_min(0)
        losses = F.cross_entropy(
            logits.flatten(0, -2),
            labels.flatten(),
            reduction="none",
            label_smoothing=self.amount,
        )
        return {"label_smoothing": Term(losses.view_as(labels), over="labelled")}
