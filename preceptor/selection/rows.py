"""What a pass over the student leaves of a batch: one row an example, before anyone names it.

Dimension key: b examples, d numbers a sketch, n positions that are scored, v classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.errors import DataError, ModelError
from preceptor.models.lora import movable
from preceptor.selection.probe import Kind

RANK_CAP = 100
"""No rank counts for more (`Features.rank_sums`)."""

_BATCH = 256
"""Tokens of padding that one batch more is worth."""


@final
@dataclass(frozen=True)
class Rows:
    """Sketches, mean losses, lengths and sums of ranks, as `Features` has them."""

    sketches: Float[Tensor, "b d"]
    losses: Float[Tensor, " b"]
    lengths: Int[Tensor, " b"]
    rank_sums: Float[Tensor, " b"]


def learned_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters whose gradients count: those that may be trained, and are not frozen.

    Raises:
        ModelError: there are none.
    """
    known = movable(module).items()
    found = {name: each for name, each in known if each.requires_grad and each.numel()}
    if not found:
        raise ModelError(
            "the gradients of a student were asked for",
            "none of its parameters is learned: all are frozen",
            "Use a student that learns.",
        )
    return found


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of batches, one batch behind another."""
    columns = ("sketches", "losses", "lengths", "rank_sums")
    return Rows(*(torch.cat([getattr(part, name) for part in parts]) for name in columns))


@final
@dataclass(frozen=True)
class Details:
    """What a `Probe` is to say of who sketches."""

    kind: Kind
    dimension: int
    seed: int
    others: dict[str, str | int | float]


Soft = Callable[[Batch], Float[Tensor, "b v"]]
"""Probabilities that stand in for a teacher's text where examples have one answer each."""


@dataclass(frozen=True)
class Scored:
    """The scored positions of a batch of text, example by example.

    Args:
        index: flat positions [n], ascending.
        example: whose each of them is [n].
        labels: the token that stands next [n].
        lengths: how many each example has [b].
    """

    index: Int[Tensor, " n"]
    example: Int[Tensor, " n"]
    labels: Int[Tensor, " n"]
    lengths: Int[Tensor, " b"]

    @classmethod
    def of(cls, batch: Batch) -> "Scored":
        """Those that the batch's mask counts.

        Raises:
            DataError: an example has none.
        """
        mask = batch.mask("all")
        lengths = mask.sum(dim=1)
        if not bool((lengths > 0).all()):
            lone = int((lengths == 0).nonzero()[0])
            raise DataError(
                f"example {lone} of a batch has no token that is scored",
                "there is no mean loss of nothing",
                "Leave prompts without a response out.",
            )
        index = mask.flatten().nonzero().squeeze(1)
        labels = batch.labels.flatten()[index]
        return cls(index, index.div(mask.shape[1], rounding_mode="floor"), labels, lengths)

    def share(self) -> Float[Tensor, " n"]:
        """Each position's share of its example's mean, in float64."""
        return self.lengths.double().reciprocal()[self.example]

    def padded(self, values: Float[Tensor, "n k"]) -> Float[Tensor, "b t k"]:
        """One row an example, zeros after its last position."""
        first = self.lengths.cumsum(0) - self.lengths
        place = torch.arange(len(self.index), device=values.device) - first[self.example]
        longest = int(self.lengths.max())
        room = values.new_zeros(len(self.lengths), longest, values.shape[1])
        room[self.example, place] = values
        return room

    def sums(self, values: Float[Tensor, " n"]) -> Float[Tensor, " b"]:
        """The sum over each example's positions."""
        return values.new_zeros(len(self.lengths)).index_add_(0, self.example, values)


def ranks(logits: Float[Tensor, "n v"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """1 for the most probable class, at most `RANK_CAP`."""
    logits = logits.detach()
    # Ones and zeros of its own kind: several times as fast to make and to add as truth values.
    above = torch.gt(logits, logits.gather(1, labels.unsqueeze(1)), out=torch.empty_like(logits))
    wide = torch.promote_types(logits.dtype, torch.float32)
    return above.sum(dim=1, dtype=wide).add_(1).clamp_(max=RANK_CAP).to(logits.dtype)


def classified(
    logits: Float[Tensor, "b v"], batch: Batch, soft: Soft | None
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Cross-entropies with what `soft` says, or with the labels; ranks of the likeliest answer.

    Raises:
        DataError: an example has neither.
    """
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if soft is not None:
        target = soft(batch).to(wide)
        likeliest = target.argmax(dim=1)
    else:
        likeliest = batch.labels
        if not bool((likeliest >= 0).all()):
            raise DataError(
                "an example without a label was scored",
                "no teacher's answer was given in its place",
                "Give `soft`, the teacher's probabilities, or label every example.",
            )
        target = torch.nn.functional.one_hot(likeliest, wide.shape[1]).to(wide)
    losses = -(target * wide.log_softmax(dim=1)).sum(dim=1)
    return losses, ranks(wide.detach(), likeliest)


def bucketed(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Examples of like length together: no batch has more than `tokens` with its padding.

    Sorted by length they are cut where padding and batches together cost least. Longest first, so
    that a batch that does not fit into memory is met at once.

    >>> bucketed([300, 900, 400, 100], 1000)
    [[1], [2, 0], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    sizes = np.array([lengths[i] for i in order], dtype=np.int64)
    cost = np.append(0, np.full(len(order), np.iinfo(np.int64).max))
    begins = np.zeros(len(order) + 1, dtype=np.int64)  # Of the batch that ends there.
    for first, size in enumerate(sizes.tolist()):
        most = max(1, tokens // size)
        ends = np.arange(first + 1, min(len(order), first + most) + 1)
        told = cost[first] + size * (ends - first) + _BATCH
        ends, told = ends[told < cost[ends]], told[told < cost[ends]]
        cost[ends], begins[ends] = told, first
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[begins[end] : end])
        end = int(begins[end])
    return batches[::-1]
