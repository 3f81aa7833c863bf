"""Christopher M. Bishop.

"Pattern Recognition and Machine Learning". Springer, 2006.
"""

from dataclasses import dataclass
from typing import final

from torch import nn
from torch.nn import functional as F

from preceptor.objectives.base import Objective
from preceptor.ops.closed_forms import ClosedForm
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class CE(Objective[nn.Module]):
    """-log q_y with q = softmax(student), equation 4.108: counted over labelled positions only."""

    def needs(self) -> Needs:
        """Labels."""
        return Needs(labels=True)

    def closed_form(self) -> ClosedForm:
        """Cross-entropy over labelled positions."""
        return ClosedForm("cross_entropy", over="labelled")

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a labelled position."""
        del teacher, aux
        logits = at_least_float32(student.logits)
        labels = batch.labels.clamp_min(0)
        losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
        return {"ce": Term(losses.view_as(labels), over="labelled")}
