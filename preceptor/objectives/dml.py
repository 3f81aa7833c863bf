"""Ying Zhang, Tao Xiang, Timothy M. Hospedales, Huchuan Lu.

"Deep Mutual Learning". CVPR, 2018. arXiv:1706.00384.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from preceptor.fields import Positive
from preceptor.objectives.base import Objective
from preceptor.ops.divergences import kl_from_logs
from preceptor.types import Batch, Mixture, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class DML(Objective[nn.Module]):
    """T^2 mean_j KL(p_j || q) over the student's peers j (the 1 / (K - 1) of a cohort of K).

    The peers are the members of the teacher's mixture, with its weights; a teacher that is no
    mixture is one peer. The gradient is that of KL(mean of the peers || q), which KD gives; the
    value is larger by how much the peers disagree. Peers are fixed while one of them learns: no
    network is drawn towards being easy to imitate. Beside it stands `CE` for each student.

    Args:
        temperature: T; 1 in the paper.
    """

    temperature: Positive = 1.0

    def needs(self) -> Needs:
        """Probabilities at T."""
        return Needs(kinds=frozenset({"probabilities"}), temperatures=frozenset({self.temperature}))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position, averaged over the peers."""
        del batch, aux
        peers = teacher.whole
        members = peers.members if isinstance(peers, Mixture) else (peers,)
        each = torch.stack(
            [
                kl_from_logs(
                    p=peer.log_probs(self.temperature).detach(),
                    student=student.logits,
                    temperature=self.temperature,
                )
                for peer in members
            ]
        )  # [k, *n]
        if isinstance(peers, Mixture):
            each = each * peers.weights.detach().to(each.dtype)
        return {"dml": Term(self.temperature**2 * each.sum(dim=0))}
