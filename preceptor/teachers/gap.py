"""How far two teachers' answers to the same batch lie apart: the same model by two ways, say.

Dimension key: n positions that count, k entries.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.distributions import Distribution
from preceptor.errors import NeedsError
from preceptor.teachers.base import Teacher
from preceptor.types import Batch, Sampled, TopK


@final
@dataclass(frozen=True)
class Gap:
    """How far two teachers' log-probabilities lie apart, over the entries that both tell.

    Args:
        largest, mean: |difference| in nats.
        positions: how many were compared.
        row, position: where the largest difference stands in the batch.
    """

    largest: float
    mean: float
    positions: int
    row: int
    position: int


@torch.no_grad()
def served_gap(served: Teacher, other: Teacher, batch: Batch) -> Gap:
    """Compares what a server says with a live or cached teacher at temperature 1.

    Engines compute in other orders and precisions, so the gap of the same model is small and not
    zero; another model, template or temperature shows as one of many nats.

    Args:
        served: a teacher that answers with the largest probabilities.
        other: one that answers with all of them, or with the largest.
        batch: a few sequences.

    Raises:
        NeedsError: one of the two answers with draws, or nothing is compared.
    """
    told, known = served.signal(batch).distribution, other.signal(batch).distribution
    index = batch.mask("all").flatten().nonzero().squeeze(1)
    if not isinstance(told, TopK) or isinstance(known, Sampled):
        raise NeedsError(
            "a server's probabilities were to be compared",
            "one of the two teachers answers with something else than probabilities",
            "Compare a served teacher with a live one, or with a cache of the largest.",
        )
    parts = [_apart(told.at(some), known.at(some)) for some in index.split(128)]
    found = torch.cat(parts) if parts else torch.empty(0, 1)
    if bool(found.isnan().all()):
        raise NeedsError(
            "no probability was told by both teachers",
            "the batch scores nothing, or the two know other tokens",
            "Compare on rows with a response, and teachers of one vocabulary.",
        )
    worst = int(found.nan_to_num(-1).amax(-1).argmax())
    row, position = divmod(int(index[worst]), batch.mask("all").shape[-1])
    largest = float(found.nan_to_num(-1).max())
    return Gap(largest, float(found.nanmean()), len(index), row, position)


def _apart(told: TopK, known: Distribution) -> Float[Tensor, "n k"]:
    """|difference| of log-probabilities; NaN where the other does not tell an entry."""
    there = told.ids >= 0
    if isinstance(known, TopK):
        same = (told.ids.unsqueeze(-1) == known.ids.unsqueeze(-2)) & there.unsqueeze(-1)
        value = torch.where(same, known.log_p.unsqueeze(-2), -torch.inf).amax(-1)
        there = same.any(-1)
    else:
        assert not isinstance(known, Sampled)
        value = known.log_probs(1.0).gather(-1, told.ids.clamp_min(0))
    return torch.where(there, (told.log_p - value).abs(), torch.nan)
