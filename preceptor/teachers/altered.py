"""A teacher whose answers are spoilt on purpose, to see what of them a student learns from.

What is drawn is a function of a seed and of the example's id, or of a token's row and place in it,
so that a row is answered the same way in every epoch, in every batch and after a restart.

The noise is that of "On the Generalization vs Fidelity Paradox in Knowledge Distillation" (ACL
Findings 2025, arXiv:2505.15442); the smoothed answer is the virtual teacher of "Revisiting
Knowledge Distillation via Label Smoothing Regularization" (CVPR 2020, arXiv:1909.11723).

Dimension key: b examples, t positions, n of either, k numbers that name one, v classes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from preceptor.errors import NeedsError
from preceptor.ops.counter import words
from preceptor.teachers.base import Teacher
from preceptor.types import (
    Batch,
    Changed,
    Dense,
    Needs,
    Outputs,
    Projected,
    Signal,
    at_least_float32,
)

Rows = Float[Tensor, "n v"]
Alteration = Callable[[Rows, Rows], Rows]
"""From logits, and numbers drawn evenly from between 0 and 1, to other logits."""

_DRAW = 21


def smoothed(logits: Rows, drawn: Rows, *, amount: float) -> Rows:
    """The first choice alone: 1 - amount for it, and amount spread evenly over all classes."""
    del drawn
    classes = logits.shape[-1]
    even = torch.full_like(logits, math.log(amount / classes))
    first = logits.argmax(dim=-1, keepdim=True)
    return even.scatter(-1, first, math.log(1 - amount + amount / classes))


def noised(logits: Rows, drawn: Rows, *, scale: float) -> Rows:
    """Gaussian noise of this standard deviation on every logit."""
    return logits + scale * _normal(drawn)


def shuffled(logits: Rows, drawn: Rows) -> Rows:
    """Each row's own numbers in another order: as sure as before, of any class."""
    return logits.gather(-1, drawn.argsort(dim=-1))


def shuffled_below_first(logits: Rows, drawn: Rows) -> Rows:
    """The first choice stays; what was said of the other classes is exchanged among them."""
    ranked = logits.argsort(dim=-1, descending=True)
    first, others = ranked[:, :1], ranked[:, 1:]
    order = drawn.gather(-1, others).argsort(dim=-1)
    places = torch.cat([first, others.gather(-1, order)], dim=-1)
    return torch.empty_like(logits).scatter(-1, places, logits.gather(-1, ranked))


def randomised(logits: Rows, drawn: Rows) -> Rows:
    """Gaussian numbers with each row's own mean and spread."""
    noise = _normal(drawn)
    spread = logits.std(dim=-1, correction=0, keepdim=True)
    return logits.mean(dim=-1, keepdim=True) + spread * noise


def _normal(drawn: Rows) -> Rows:
    return torch.special.ndtri(drawn)


@final
class Altered(Teacher):
    """Another teacher's logits, altered row by row or token by token; its layers are not shown.

    Args:
        teacher: whose; it gives raw logits.
        alteration: what is done to them.
        seed: of the draws.

    Raises:
        NeedsError: the other gives no logits.
    """

    def __init__(self, teacher: Teacher, alteration: Alteration, seed: int = 0) -> None:
        if "logits" not in teacher.offers().kinds:
            raise NeedsError(
                f"an altered {type(teacher).__name__}",
                "raw logits are altered, and it gives none",
                "Alter a model, or an ensemble that averages logits.",
            )
        # Named as an ensemble's are: whoever asks what moves or stands still looks there.
        self.members = (teacher,)
        self.alteration, self.seed = alteration, seed

    def offers(self) -> Needs:
        """Logits, and probabilities at any temperature."""
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    @torch.no_grad()
    def signal(self, batch: Batch) -> Signal:
        """The other's answer, altered; of tokens a slice at a time, where it is read."""
        given = self.members[0].signal(batch).distribution
        assert isinstance(given, Dense | Projected), "it offers raw logits"
        if isinstance(given, Dense) and given.logits.ndim == 2:
            return Signal(Dense(self._altered(given.logits, batch.ids[:, None])))
        names = torch.stack([batch.extra["row"], batch.extra["offset"]], dim=-1)
        return Signal(Changed(given, names, self._altered))

    def _altered(self, logits: Rows, names: Int[Tensor, "n k"]) -> Rows:
        logits = at_least_float32(logits)
        classes = torch.arange(logits.shape[-1], device=logits.device)
        each = (name[:, None] for name in names.unbind(-1))
        word = words(self.seed, _DRAW, *each, classes, device=logits.device)
        # 23 bits and a half: every value is a float32, and neither 0 nor 1.
        drawn = (((word >> 41) & 0x7FFFFF).to(logits.dtype) + 0.5) / 2**23
        return self.alteration(logits, drawn)

    def learn(self, student: nn.Module, seen: Sequence[tuple[Batch, Outputs]]) -> None:
        """The other moves."""
        self.members[0].learn(student, seen)

    def to(self, device: Any) -> "Altered":
        """The other moved to a device."""
        return Altered(self.members[0].to(device), self.alteration, self.seed)

    def state(self) -> dict[str, Tensor]:
        """The other's."""
        return self.members[0].state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        self.members[0].load_state(state)
