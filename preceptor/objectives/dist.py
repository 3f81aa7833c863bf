"""Tao Huang, Shan You, Fei Wang, Chen Qian, Chang Xu.

"Knowledge Distillation from A Stronger Teacher". NeurIPS, 2022. arXiv:2205.10536.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.fields import NonNegative, Positive
from preceptor.objectives.base import Objective
from preceptor.ops.relations import varies
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class DIST(Objective[nn.Module]):
    """T^2 (beta inter + gamma intra), equations 8 and 9: correlations in place of a divergence.

    inter = 1 - rho(q_i, p_i) for a position's probabilities over the classes; intra = 1 - the
    mean over classes of rho(q_.k, p_.k), a class's probabilities over the batch; rho is Pearson's
    correlation, 0 without gradient where a side is constant. Intra compares positions with one
    another: it wants batches of some 32 or more, and is one number a batch. The authors weigh the
    sum by 2 beside CE and use T = 1 for ImageNet, 4 for CIFAR: `CE() + 2.0 *
    DIST(temperature=4.0)`. T^2 is in this term, as in theirs.

    Args:
        beta: the weight of inter.
        gamma: the weight of intra.
        temperature: T.
    """

    beta: NonNegative = 1.0
    gamma: NonNegative = 1.0
    temperature: Positive = 1.0

    def needs(self) -> Needs:
        """Probabilities at T, of a whole batch at once."""
        return Needs(
            kinds=frozenset({"probabilities"}),
            temperatures=frozenset({self.temperature}),
            scope="batch",
            linear=False,
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a position, one a batch."""
        del aux
        p = teacher.whole.log_probs(self.temperature).detach().exp()
        q = torch.softmax(at_least_float32(student.logits) / self.temperature, dim=-1)
        counts = batch.mask("all")
        inter = 1 - correlation(q, p)
        intra = 1 - correlation(q[counts].T, p[counts].T).mean()
        square = self.temperature**2
        return {
            "dist.inter": Term(square * self.beta * inter),
            "dist.intra": Term(square * self.gamma * intra, per="batch"),
        }


def correlation(a: Float[Tensor, "*n m"], b: Float[Tensor, "*n m"]) -> Float[Tensor, "*n"]:
    """Pearson's correlation along the last axis; 0, without gradient, where a side is constant."""
    both = varies(a) & varies(b)
    a = a - a.mean(dim=-1, keepdim=True)
    b = b - b.mean(dim=-1, keepdim=True)
    # The authors' epsilon alone: a constant side (a classifier that starts at zero) would get a
    # gradient of 1e8.
    found = (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-8)
    return torch.where(both, found, 0.0)
