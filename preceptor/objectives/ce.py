"""Christopher M. Bishop.

"Pattern Recognition and Machine Learning". Springer, 2006.
"""

from dataclasses import dataclass
from typing import final

from torch import nn
from torch.nn import functional as F

from preceptor.needs import named_masks
from preceptor.objectives.base import Objective
from preceptor.ops.closed_forms import ClosedForm
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32

_NONE = -1
"""Stands for the label of a position that has none."""


@final
@dataclass(frozen=True)
class CE(Objective[nn.Module]):
    """-log q_y with q = softmax(student), equation 4.108: counted over labelled positions only.

    On text that a teacher wrote, over "teacher_written" where it is mixed with other text, this is
    sequence-level distillation: Yoon Kim, Alexander M. Rush, "Sequence-Level Knowledge
    Distillation", EMNLP 2016.

    Args:
        over: which positions count: "labelled", or a mask that the data names; of such a mask a
            position without a label counts and adds nothing.
    """

    over: str = "labelled"

    def needs(self) -> Needs:
        """Labels."""
        return Needs(labels=True, masks=named_masks(self.over))

    def closed_form(self) -> ClosedForm:
        """Cross-entropy over labelled positions."""
        return ClosedForm("cross_entropy", over=self.over)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a labelled position."""
        del teacher, aux
        logits = at_least_float32(student.logits)
        labels = batch.labels.masked_fill(~batch.mask("labelled"), _NONE)
        losses = F.cross_entropy(
            logits.flatten(0, -2), labels.flatten(), ignore_index=_NONE, reduction="none"
        )
        return {"ce": Term(losses.view_as(labels), over=self.over)}
