"""Ying Zhang, Tao Xiang, Timothy M. Hospedales, Huchuan Lu.

"Deep Mutual Learning". CVPR 2018. arXiv:1706.00384.

Dimension key: *n positions, v classes.
"""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.errors import NeedsError
from preceptor.teachers.base import Teacher
from preceptor.types import Batch, Dense, Mixture, Needs, Outputs, Projected, Signal


@final
class Peers(Teacher):
    """A cohort of students, each taught by the mean of the others' present probabilities.

    The loop shows every micro-batch's outputs before it asks for signals. Unlike the paper, which
    averages KL(p_j || q) over the other members j, the signal is their mean probability: the two
    losses differ by a term without q, so the student's gradient is the same.
    """

    def __init__(self) -> None:
        self._shown: tuple[Dense | Projected, ...] = ()

    def offers(self) -> Needs:
        """Probabilities at any temperature."""
        return Needs(kinds=frozenset({"probabilities"}))

    def show(self, outputs: Sequence[Outputs]) -> None:
        """What every member of the cohort answers to the present batch, in the cohort's order."""
        if len(outputs) < 2:
            raise NeedsError(
                f"a cohort of {len(outputs)}",
                "peers learn from one another",
                "Give at least two students.",
            )
        detached = [output.detached() for output in outputs]
        self._shown = tuple(
            each.projection if each.is_projected() else Dense(each.logits) for each in detached
        )

    def signal_for(self, member: int, batch: Batch) -> Signal:
        """The mean of all members but this one."""
        others = tuple(held for index, held in enumerate(self._shown) if index != member)
        first = _values(others[0]) if others else torch.empty(0, 0)
        if len(first) != len(batch):
            shown = len(first)
            raise NeedsError(
                f"peers were asked about {len(batch)} examples and shown {shown}",
                "they answer to the batch that they were shown last",
                "Call `show` with the cohort's outputs for this batch first.",
            )
        shape = (len(others), *first.shape[:-1])
        weights = torch.full(shape, 1 / len(others), device=first.device)
        return Signal(Mixture(others, weights))

    def signal(self, batch: Batch) -> Signal:
        """Raises `NeedsError`: whose peers are meant is not said."""
        raise NeedsError(
            f"peers were asked about {batch} by nobody",
            "each member of a cohort has other peers",
            "Call `signal_for(member, batch)`, after `show`.",
        )


def _values(held: Dense | Projected) -> Float[Tensor, "*n _"]:
    return held.logits if isinstance(held, Dense) else held.hidden
