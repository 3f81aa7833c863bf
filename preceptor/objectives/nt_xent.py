"""Ting Chen, Simon Kornblith, Mohammad Norouzi, Geoffrey Hinton.

"A Simple Framework for Contrastive Learning of Visual Representations". ICML 2020.
arXiv:2002.05709. The mean over several positives is of Prannay Khosla et al., "Supervised
Contrastive Learning", NeurIPS 2020, arXiv:2004.11362.

Dimension key: b examples, n labelled examples, v width of the answer.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.fields import Positive
from preceptor.objectives.base import Objective
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class NTXent(Objective[nn.Module]):
    """-log(exp(cos(z_i, z_j) / T) / sum_{k != i} exp(cos(z_i, z_k) / T)): equation 1.

    Without a teacher: what a batch's examples of one label have in common, told from all others,
    where the student's answer is an embedding. The mean over each example's positives, then over
    the examples that have any. For sentences a label says which belong together.

    Args:
        temperature: T; 0.05 is usual for sentences, 0.1 to 0.5 the paper's for images.
    """

    temperature: Positive = 0.05

    def needs(self) -> Needs:
        """Labels, of a whole batch at once."""
        return Needs(labels=True, scope="batch")

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number a batch; 0 where no two examples share a label."""
        del teacher, aux
        rows = batch.mask("labelled")
        labels, answers = batch.labels[rows], at_least_float32(student.logits[rows])
        alone = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        log_p = self._log_probs(answers, alone)
        positive = (labels[:, None] == labels) & ~alone
        count = positive.sum(dim=1)
        each = -torch.where(positive, log_p, 0.0).sum(dim=1) / count.clamp_min(1)
        return {"nt_xent": Term(each.sum() / (count > 0).sum().clamp_min(1), per="batch")}

    def _log_probs(self, answers: Float[Tensor, "n v"], alone: Tensor) -> Float[Tensor, "n n"]:
        if len(answers) < 2:
            return answers @ answers.T * 0.0
        units = F.normalize(answers, dim=-1)
        scores = (units @ units.T / self.temperature).masked_fill(alone, -torch.inf)
        return scores.log_softmax(dim=-1)
