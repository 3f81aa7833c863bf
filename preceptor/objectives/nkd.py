"""Zhendong Yang, Ailing Zeng, Zhe Li, Tianke Zhang, Chun Yuan, Yu Li.

"From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized
Loss and Customized Soft Labels". ICCV, 2023. arXiv:2303.13005.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from preceptor.fields import NonNegative, Positive
from preceptor.objectives.base import Objective
from preceptor.ops.grouped_kl import group_log_probs
from preceptor.ops.grouping import label_or_not
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class NKD(Objective[nn.Module]):
    """-p_y log q_y - gamma T^2 sum_{i != y} p(i|not y) log q(i|not y), without its CE.

    p_y and q_y are taken at temperature 1, the classes other than the label at T and normalised
    by themselves. A cross-entropy: it does not reach zero. Counted over labelled positions; the
    authors add CE with weight 1.

    Copies of one version of the authors' code, which they have mended since, keep the label among
    the other classes by a mask that is true everywhere; this is the paper's equation.

    Args:
        gamma: the weight of the classes other than the label.
        temperature: T, of those classes alone.
    """

    gamma: NonNegative = 1.5
    temperature: Positive = 1.0

    def needs(self) -> Needs:
        """Probabilities at 1 and at T, and labels."""
        return Needs(
            kinds=frozenset({"probabilities"}),
            temperatures=frozenset({1.0, self.temperature}),
            labels=True,
            linear=False,
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """Two numbers a labelled position."""
        del aux
        logits = at_least_float32(student.logits)
        label = batch.labels.clamp_min(0).unsqueeze(-1)
        p_label = teacher.whole.log_probs(1.0).detach().gather(-1, label).squeeze(-1).exp()
        q_label = torch.log_softmax(logits, dim=-1).gather(-1, label).squeeze(-1)

        groups = label_or_not(batch.labels, logits.shape[-1])
        p = teacher.whole.log_probs(self.temperature).detach()
        q = torch.log_softmax(logits / self.temperature, dim=-1)
        p_others = p - group_log_probs(p, groups, 2)[..., 1:]
        q_others = q - group_log_probs(q, groups, 2)[..., 1:]
        # 0 * (-inf) is NaN: the label and what the teacher rules out have no part in the sum.
        absent = (groups == 0) | (p == -torch.inf)
        others = p_others.masked_fill(absent, -torch.inf).exp() * q_others.masked_fill(absent, 0.0)
        square = self.temperature**2
        return {
            "nkd.target": Term(-p_label * q_label, over="labelled"),
            "nkd.others": Term(-square * self.gamma * others.sum(dim=-1), over="labelled"),
        }
