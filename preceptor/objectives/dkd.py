"""Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu, Jiajun Liang.

"Decoupled Knowledge Distillation". CVPR, 2022. arXiv:2203.08679.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor.fields import NonNegative, Positive
from preceptor.objectives.base import Objective
from preceptor.ops.grouped_kl import grouped_kl_from_logs
from preceptor.ops.grouping import label_or_not
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class DKD(Objective[nn.Module]):
    """T^2 (alpha TCKD + beta NCKD), equation 7.

    TCKD = KL((p_y, 1 - p_y) || (q_y, 1 - q_y)); NCKD = KL(p(.|not y) || q(.|not y)), both at T.
    KD is TCKD + (1 - p_y) NCKD: the paper frees the second part from the teacher's confidence.

    Counted over labelled positions, as its groups come from the label; it reads one hard label,
    so inputs that mix two examples have no meaning here. The authors add CE with weight 1 and
    ramp the whole term up over 20 epochs, without which beta = 8 is unstable at the start:
    `CE() + DKD() * Ramp(start=0.0, end=1.0, over=20.0, unit="epochs")`. Unlike the authors' code,
    the other classes are normalised by themselves in log space and not by subtracting 1000 from
    the label's logit, which large logits outrun.

    Args:
        alpha: the weight of the label against the rest.
        beta: the weight of the rest among themselves; the authors use 2 to 8 by model pair.
        temperature: T.
    """

    alpha: NonNegative = 1.0
    beta: NonNegative = 8.0
    temperature: Positive = 4.0

    def needs(self) -> Needs:
        """Probabilities at T, and labels."""
        return Needs(
            kinds=frozenset({"probabilities"}),
            temperatures=frozenset({self.temperature}),
            labels=True,
            linear=False,
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """Two numbers a labelled position."""
        del aux
        parts = grouped_kl_from_logs(
            p=teacher.whole.log_probs(self.temperature).detach(),
            student=student.logits,
            groups=label_or_not(batch.labels, student.logits.shape[-1]),
            num_groups=2,
            temperature=self.temperature,
        )
        square = self.temperature**2
        # The label's own group has one member: within it there is nothing to compare.
        return {
            "dkd.target": Term(square * self.alpha * parts.between, over="labelled"),
            "dkd.others": Term(square * self.beta * parts.within[..., 1], over="labelled"),
        }
