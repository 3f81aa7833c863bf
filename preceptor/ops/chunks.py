"""Likelihoods of chunks: sums over a stretch of positions, and how far two of them are apart.

Dimension key: b rows, t positions, u of the rows that the chunks are counted in, *n anything.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

SATURATED = 1e-6
"""Nearest to 1 that a probability is told from 1, as the distance of its logarithm from 0."""


def sum_by_chunk(
    values: Float[Tensor, "b t"], chunk: Int[Tensor, "b t"], width: int
) -> Float[Tensor, "b u"]:
    """Each chunk's sum, put where the chunk begins; 0 elsewhere.

    Args:
        values: one a position.
        chunk: which place, 0 to width - 1, the position's chunk begins at; -1 outside of chunks.
        width: u.

    >>> sum_by_chunk(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[1, 1, -1]]), 2)
    tensor([[0., 3.]])
    """
    inside = chunk >= 0
    kept = torch.where(inside, values, 0.0)
    return values.new_zeros(len(values), width).scatter_add(1, chunk.clamp_min(0), kept)


def binary_kl(
    log_p: Float[Tensor, "*n"], log_q: Float[Tensor, "*n"], temperature: float
) -> Float[Tensor, "*n"]:
    """KL of the events (happens, does not) with probabilities p^(1/T) and q^(1/T).

    Args:
        log_p, log_q: at most 0; p or q within `SATURATED` of 1 is read as that far from it.
        temperature: T.

    >>> half = torch.tensor([math.log(0.5)])
    >>> round(float(binary_kl(half, 2 * half, 1.0)), 4)
    0.1438
    """
    own, other = (x.clamp(max=-SATURATED) / temperature for x in (log_p, log_q))
    missed, unmissed = _log_one_less(own), _log_one_less(other)
    # p log(p / q) is 0 where p is, also where q is 0 too.
    gap = torch.where(own == -torch.inf, 0.0, own - other)
    return own.exp() * gap + missed.exp() * (missed - unmissed)


def _log_one_less(log_p: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log(1 - p) of log p < 0, to full precision at either end."""
    near = log_p > -math.log(2)
    close = torch.where(near, log_p, -1.0).expm1().neg().log()
    return torch.where(near, close, torch.where(near, -1.0, log_p).exp().neg().log1p())
