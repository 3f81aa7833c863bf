"""Nicolas Boizard, Kevin El Haddad, Céline Hudelot, Pierre Colombo.

"Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs". TMLR, 2025.
arXiv:2402.12030.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from preceptor.fields import Positive
from preceptor.objectives.base import Objective
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms, at_least_float32


@final
@dataclass(frozen=True)
class ULD(Objective[nn.Module]):
    """sum_i |p_(i) - q_(i)|: both sides' probabilities, each sorted from the largest on.

    The Wasserstein distance between the two where every class is as far from every other; the
    shorter vocabulary is filled up with zeros. Which class is likely is never compared, only how
    likely the first, the second, ... are: zero does not mean equal. The paper adds cross-entropy:
    `CE() + 1.5 * ULD()`.

    Which positions are compared is the data's choice (`data.two_tokenisers`): in the paper those
    of the same number, the sequences cut to the shorter; those that have read the same bytes are
    the better choice, and the default. Where the data says nothing, all positions that count.

    Args:
        temperature: of both softmaxes; 1 in the paper.
    """

    temperature: Positive = 1.0

    def needs(self) -> Needs:
        """Probabilities at T, over any classes."""
        return Needs(
            kinds=frozenset({"probabilities"}),
            temperatures=frozenset({self.temperature}),
            linear=False,
            foreign=True,
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One distance a position."""
        del aux
        p = teacher.whole.log_probs(self.temperature).detach().exp()
        q = torch.softmax(at_least_float32(student.logits) / self.temperature, dim=-1)
        p, q = (side.sort(dim=-1, descending=True).values for side in (p, q))
        both = min(p.shape[-1], q.shape[-1])
        shared = (p[..., :both] - q[..., :both]).abs().sum(dim=-1)
        rest = p[..., both:].sum(dim=-1) + q[..., both:].sum(dim=-1)
        over = "aligned" if "aligned" in batch.masks else "all"
        return {"uld": Term(shared + rest, over=over)}
