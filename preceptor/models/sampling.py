"""How the next token is drawn from a model's logits, one uniform number a token.

A draw is a function of the logits and its own number, found in the cumulated probabilities. So a
row's tokens do not depend on the rows beside it, nor on what else a process has drawn.

Dimension key: b rows, v classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.errors import RecipeError

_BLOCK = 256
_BELOW_ONE = 1 - 2.0**-53  # Times a sum it stays below the sum, in double precision.


@final
@dataclass(frozen=True)
class Sampling:
    """How much is written, and from which distribution; no loss ever reads these numbers.

    Args:
        max_new: the most tokens a response may have, 1 or more.
        temperature: of the softmax that is drawn from; 0 takes the most probable token.
        top_p: draw among the most probable tokens that together reach this mass, in (0, 1].
        top_k: draw among so many of the most probable tokens; 0 for all.
    """

    max_new: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        finite = math.isfinite(self.temperature) and self.temperature >= 0
        if self.max_new < 1 or not finite or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise RecipeError(
                f"{self}",
                "a response has room for a token, a temperature is 0 or more, top_p lies in (0, 1]"
                " and top_k is 0 or more",
                "Correct the number that is out of range.",
            )

    def probabilities(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """What is drawn from: temperature, then top-k, then top-p, summing to one.

        Not for temperature 0.
        """
        scaled = logits if self.temperature == 1 else logits / self.temperature
        kept = torch.softmax(scaled, dim=-1)
        if self.top_k and self.top_k < kept.shape[-1]:
            least = kept.topk(self.top_k).values[:, -1:]
            kept = kept.masked_fill(kept < least, 0.0)
            kept = kept / kept.sum(-1, keepdim=True)
        if self.top_p < 1:
            ordered, classes = kept.sort(dim=-1, descending=True, stable=True)
            before = ordered.cumsum(-1) - ordered
            ordered = ordered.masked_fill(before >= self.top_p, 0.0)
            kept = torch.zeros_like(kept).scatter(-1, classes, ordered)
            kept = kept / kept.sum(-1, keepdim=True)
        return kept

    def draw(self, logits: Float[Tensor, "b v"], numbers: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """One token a row; `numbers` are uniform in [0, 1)."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        return drawn(self.probabilities(logits), numbers)


def drawn(probabilities: Float[Tensor, "b v"], numbers: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Where each number falls among the cumulated probabilities; never on one that is 0.

    First among blocks of classes, then within the block: all classes are read once, and only one
    block of a row is cumulated.
    """
    short = -probabilities.shape[-1] % _BLOCK
    padded = torch.nn.functional.pad(probabilities, (0, short)) if short else probabilities
    blocks = padded.unflatten(-1, (-1, _BLOCK))
    block, within = _found(blocks.sum(-1).double(), numbers.double())
    inside = blocks[torch.arange(len(blocks), device=block.device), block].double()
    place, _ = _found(inside, within)
    return block * _BLOCK + place


def _found(
    weights: Float[Tensor, "b w"], numbers: Float[Tensor, " b"]
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """Which weight each number falls on, and how far into it: again a number in [0, 1)."""
    cumulated = weights.cumsum(-1)
    places = numbers[:, None] * cumulated[:, -1:]
    index = torch.searchsorted(cumulated, places, right=True)
    size = weights.gather(-1, index)
    into = (places - (cumulated.gather(-1, index) - size)) / size
    return index.squeeze(-1), into.clamp_(0.0, _BELOW_ONE).squeeze(-1)


def uniform(seeds: Sequence[int], count: int) -> Float[Tensor, "{count} b"]:
    """So many uniform numbers in [0, 1) for each seed, in double precision."""
    each = [
        torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    return torch.stack(each, dim=1) if each else torch.empty(count, 0, dtype=torch.float64)
