"""The largest probabilities of a slice of positions, and draws from it: exact, and quick on a CPU.

Dimension key: c positions of a slice, v classes, k entries, n draws, w blocks.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.data.counter import words
from preceptor.distributions import (
    Dense,
    Distribution,
    Sampled,
    TopK,
    at_least_float32,
    check_temperature,
)
from preceptor.errors import NeedsError

_BLOCK = 32
_DRAWN_BLOCK = 256


@final
@dataclass(frozen=True)
class Softened:
    """exp(logits / T - their largest) of a slice [c, v], and what it takes to make more of it."""

    masses: Float[Tensor, "c v"]
    values: Float[Tensor, "c v"]
    maxima: Float[Tensor, "c w"]
    peaks: Float[Tensor, "c 1"]

    @classmethod
    def of(cls, teacher: Distribution, temperature: float) -> "Softened":
        """Of every class; refuses what does not know every class."""
        if isinstance(teacher, TopK | Sampled):
            raise NeedsError(
                "the probability of every class was asked for",
                "this teacher gives the largest alone, or draws",
                "Write a top-k cache of no more entries than it gives.",
            )
        if isinstance(teacher, Dense) and teacher.temperature is None:
            values = at_least_float32(teacher.logits)
            values = values if temperature == 1 else values / temperature
        else:
            values = teacher.log_probs(temperature)
        maxima, left = _block_maxima(values)
        peaks = torch.cat([maxima, left], dim=-1).amax(dim=-1, keepdim=True)
        return cls((values - peaks).exp_(), values, maxima, peaks)


def largest(teacher: Distribution, k: int, temperature: float) -> TopK:
    """The k largest probabilities of a slice, by ascending id, and the exact mass of the rest.

    Args:
        teacher: a slice of positions; a `TopK` of as many entries or more is cut.
        k: at most v are kept.
        temperature: what they are taken at.

    Raises:
        NeedsError: of draws, of fewer than k entries, or of those at another temperature.
    """
    if isinstance(teacher, TopK):
        return _cut(teacher, k, temperature)
    soft = Softened.of(teacher, temperature)
    classes = soft.values.shape[-1]
    ids = _largest_ids(soft, min(k, classes)).sort(dim=-1).values
    kept = soft.masses.gather(-1, ids)
    # What is left is summed itself: 1 - sum would lose all digits of a small tail.
    tail = soft.masses.scatter_(-1, ids, 0.0).sum(dim=-1)
    log_total = (kept.sum(dim=-1) + tail).log()
    # Of the values, not of `kept`, which is 0 far below the peak.
    log_p = soft.values.gather(-1, ids) - soft.peaks - log_total.unsqueeze(-1)
    ids = ids.masked_fill(log_p == -torch.inf, -1)
    return TopK(ids, log_p, tail.log() - log_total, temperature, classes)


def drawn(
    teacher: Distribution,
    n: int,
    temperature: float,
    *,
    seed: int,
    rows: Int[Tensor, " c"],
    offsets: Int[Tensor, " c"],
) -> Sampled:
    """n draws with replacement at each position, by ascending id, and the entropy.

    Each draw is a function of seed, row, offset, its number and the probabilities alone.
    """
    soft = Softened.of(teacher, temperature)
    count, classes = soft.masses.shape
    pad = -classes % _DRAWN_BLOCK
    blocks = torch.nn.functional.pad(soft.masses, (0, pad)).view(count, -1, _DRAWN_BLOCK)
    ends = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    total = ends[:, -1:]
    names = (rows.cpu().numpy()[:, None], offsets.cpu().numpy()[:, None], np.arange(n)[None])
    uniform = (words(seed, *names) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    target = torch.from_numpy(uniform).to(total.device) * total
    block = torch.searchsorted(ends, target, right=True).clamp_max(ends.shape[1] - 1)
    begin = (ends - blocks.sum(dim=-1, dtype=torch.float64)).gather(1, block)
    picked = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, _DRAWN_BLOCK))
    inside = picked.double().cumsum(dim=-1)
    # Rounding may carry a target past its block's end: it belongs to the block's last mass.
    left = torch.minimum(target - begin, inside[..., -1] * (1 - 1e-12)).clamp_min_(0)
    within = torch.searchsorted(inside, left.unsqueeze(-1), right=True).squeeze(-1)
    ids = (block * _DRAWN_BLOCK + within).sort(dim=-1).values
    log_total = total.log()
    mean = (soft.masses * (soft.values - soft.peaks).clamp_min(-1e4)).sum(-1, dtype=torch.float64)
    entropy = (log_total - mean.unsqueeze(-1) / total).squeeze(-1).float()
    return _counted(ids, entropy, temperature, classes)


def _counted(
    drawn_ids: Int[Tensor, "c n"], entropy: Float[Tensor, " c"], temperature: float, classes: int
) -> Sampled:
    """Sorted draws as different ids with counts."""
    new = torch.ones_like(drawn_ids, dtype=torch.bool)
    new[:, 1:] = drawn_ids[:, 1:] != drawn_ids[:, :-1]
    place = new.cumsum(dim=-1) - 1
    width = int(place.max()) + 1 if len(place) else 1
    shape = (len(drawn_ids), width)
    ids = drawn_ids.new_full(shape, -1).scatter_(1, place, drawn_ids)
    counts = drawn_ids.new_zeros(shape).scatter_add_(1, place, torch.ones_like(place))
    return Sampled(ids, counts, entropy, temperature, classes)


def _block_maxima(values: Float[Tensor, "c v"]) -> tuple[Tensor, Tensor]:
    """The largest of each block [c, w], and the classes that are in none, fewer than a block.

    A block's classes lie w apart, so that maxima are taken of whole vectors.
    """
    count, classes = values.shape
    inside = classes - classes % _BLOCK
    blocks = values[:, :inside].reshape(count, _BLOCK, inside // _BLOCK)
    return blocks.amax(dim=1), values[:, inside:]


def _largest_ids(soft: Softened, k: int) -> Int[Tensor, "c k"]:
    """The k largest lie in the k blocks with the largest maxima, or in none of the blocks."""
    values, blocks = soft.values, soft.maxima.shape[1]
    if blocks <= 2 * k:
        return values.topk(k, dim=-1, sorted=False).indices
    chosen = soft.maxima.topk(k, dim=-1, sorted=False).indices
    steps = torch.arange(_BLOCK, device=values.device).view(1, _BLOCK, 1) * blocks
    left = torch.arange(blocks * _BLOCK, values.shape[1], device=values.device)
    candidates = torch.cat(
        [(chosen.unsqueeze(1) + steps).flatten(1), left.expand(len(values), -1)], dim=1
    )
    best = values.gather(1, candidates).topk(k, dim=-1, sorted=False).indices
    return candidates.gather(1, best)


def _cut(teacher: TopK, k: int, temperature: float) -> TopK:
    check_temperature(teacher.temperature, temperature)
    held = teacher.ids.shape[-1]
    if held < min(k, teacher.classes):
        raise NeedsError(
            f"the {k} largest probabilities were asked for",
            f"the teacher gives the {held} largest",
            f"Ask for {held} or fewer, or for a teacher that gives more.",
        )
    keep = teacher.log_p.topk(min(k, held), dim=-1).indices
    gone = teacher.log_p.scatter(-1, keep, -torch.inf)
    rest = torch.cat([gone, teacher.log_tail.unsqueeze(-1)], dim=-1).logsumexp(dim=-1)
    last = torch.where(teacher.ids >= 0, teacher.ids, teacher.classes).gather(-1, keep)
    ids, order = last.sort(dim=-1)
    log_p = teacher.log_p.gather(-1, keep).gather(-1, order)
    return TopK(
        ids.masked_fill(ids == teacher.classes, -1), log_p, rest, temperature, teacher.classes
    )
