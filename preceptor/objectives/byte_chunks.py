"""Benjamin Minixhofer, Ivan Vulić, Edoardo Maria Ponti.

"Universal Cross-Tokenizer Distillation via Approximate Likelihood Matching". NeurIPS, 2025.
arXiv:2503.20083.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from preceptor.distributions import Projected
from preceptor.fields import Positive
from preceptor.objectives.base import Objective
from preceptor.ops.chosen import chosen_log_probs, shown_by
from preceptor.ops.chunks import binary_kl, sum_by_chunk
from preceptor.types import Batch, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class ByteChunks(Objective[nn.Module]):
    """KL of (p^(1/T), 1 - p^(1/T)) from (q^(1/T), 1 - q^(1/T)) for each chunk of bytes.

    For a teacher of another tokeniser. A chunk is a stretch of a response between two places where
    both tokenisations meet; p and q are what teacher and student give to it after the same text: by
    the chain rule, the products of its tokens' probabilities, however many there are on each side.
    Data for two tokenisers (`data.two_tokenisers`) finds the chunks and says how much they cover;
    its `boundaries: certain` keeps boundaries that every continuation has, where the two
    probabilities are of the same bytes and not of the same bytes cut just so (the paper corrects
    this tokenisation bias by the probability of a space instead). The value falls as 1 / T where
    T is large. In data of one tokeniser every labelled token is a chunk.

    Args:
        temperature: T; 100 in the paper's experiments, where the loss compares log-likelihoods.
    """

    temperature: Positive = 100.0

    def needs(self) -> Needs:
        """The teacher's log-likelihood of each chunk, and the tokens themselves."""
        return Needs(
            kinds=frozenset({"chunks"}),
            temperatures=frozenset({1.0}),
            labels=True,
            scope="example",
            linear=False,
            foreign=True,
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a chunk, at the position where it begins."""
        del aux
        chunk, shown = batch.extra.get("chunk"), shown_by(student)
        if chunk is None:
            read = batch.mask("labelled")
            log_q = chosen_log_probs(shown, batch.labels, read)
            log_p = _of_tokens(teacher, batch.labels, read)
            return {"byte_chunks": Term(self._apart(log_p, log_q), over="labelled")}
        each = chosen_log_probs(shown, batch.labels, chunk >= 0)
        log_q = sum_by_chunk(each, chunk, chunk.shape[1])
        return {"byte_chunks": Term(self._apart(teacher.chunk_log_p, log_q), over="aligned")}

    def _apart(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return binary_kl(log_p.detach().to(log_q.dtype), log_q, self.temperature)


def _of_tokens(teacher: Signal, labels: Tensor, read: Tensor) -> Tensor:
    whole = teacher.whole
    if isinstance(whole, Projected):
        return chosen_log_probs(whole, labels, read)
    found = whole.log_probs(1.0).gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return torch.where(read, found, 0.0)
