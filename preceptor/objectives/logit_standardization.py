"""Shangquan Sun, Wenqi Ren, Jingzhi Li, Rui Wang, Xiaochun Cao.

"Logit Standardization in Knowledge Distillation". CVPR, 2024. arXiv:2403.01427.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.fields import Positive
from preceptor.objectives.base import Objective
from preceptor.ops.divergences import forward_kl
from preceptor.ops.relations import varies
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class LogitStandardization(Objective[nn.Module]):
    """T^2 KL(softmax(z(teacher) / T) || softmax(z(student) / T)), algorithm 1.

    z(x) = (x - mean(x)) / (std(x) + 1e-7) over the classes, with the sample deviation (ddof = 1):
    the student is to have the teacher's ranks and ratios, at a scale of its own. The authors use
    `0.1 * CE() + 9.0 * LogitStandardization()`. Nothing but CE then fixes the scale of the
    student's logits, and its confidence is badly calibrated: fit a temperature afterwards. Equal
    logits have no ranks: unlike the authors' code, they become zeros without gradient.

    Args:
        temperature: the base temperature T; dividing by the deviation does the rest.
    """

    temperature: Positive = 2.0

    def needs(self) -> Needs:
        """Raw logits."""
        return Needs(kinds=frozenset({"logits"}), linear=False)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position."""
        del batch, aux
        divergence = forward_kl(
            teacher=_standardized(teacher.logits.detach()),
            student=_standardized(student.logits),
            temperature=self.temperature,
        )
        return {"logit_standardization": Term(self.temperature**2 * divergence)}


def _standardized(logits: Float[Tensor, "*n v"]) -> Float[Tensor, "*n v"]:
    logits = at_least_float32(logits)
    centred = logits - logits.mean(dim=-1, keepdim=True)
    standardized = centred / (logits.std(dim=-1, keepdim=True) + 1e-7)
    # A classifier that starts at zero would get a gradient of 1e7.
    return torch.where(varies(logits).unsqueeze(-1), standardized, 0.0)
