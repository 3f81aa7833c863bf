"""Geoffrey Hinton, Oriol Vinyals, Jeff Dean.

"Distilling the Knowledge in a Neural Network". NIPS Deep Learning Workshop, 2014.
arXiv:1503.02531.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor.fields import Positive
from preceptor.objectives._bins import bins
from preceptor.objectives.base import Objective
from preceptor.ops.closed_forms import ClosedForm
from preceptor.ops.pairing import forward_kl_to
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class KD(Objective[nn.Module]):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)).

    Section 2: the gradient of soft targets shrinks as 1 / T^2, so T^2 keeps its scale. The
    Kullback-Leibler form differs from the paper's cross-entropy by a constant and reaches zero.
    Mix with labels by addition: `0.1 * CE() + 0.9 * KD(temperature=4)`.

    Args:
        temperature: T; 4 is the CIFAR literature's, 1 to 4 ImageNet's.
        over: which positions count: "all", or a mask that the data names ("teacher_written").
    """

    temperature: Positive = 4.0
    over: str = "all"

    def needs(self) -> Needs:
        """Probabilities at T, of the largest classes at least, or draws."""
        return bins(self.temperature, self.over, linear=True)

    def closed_form(self) -> ClosedForm:
        """Forward KL at T, times T^2."""
        return ClosedForm(
            "forward_kl", self.temperature, factor=self.temperature**2, over=self.over
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position."""
        del batch, aux
        divergence = forward_kl_to(teacher.distribution, student.logits, self.temperature)
        return {"kd": Term(self.temperature**2 * divergence, over=self.over)}
