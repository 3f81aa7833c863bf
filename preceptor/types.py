"""What flows through a run: batches, outputs, signals, terms, progress; `needs` stands beside.

Dimension key: *n positions ([B] for images, [B, T] for text), b examples, v classes, d width,
k members of a mixture. The class axis is always last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.batches import Batch as Batch
from preceptor.batches import Inputs as Inputs
from preceptor.batches import Over as Over
from preceptor.batches import map_tensors as map_tensors
from preceptor.batches import missing
from preceptor.distributions import Changed as Changed
from preceptor.distributions import Dense as Dense
from preceptor.distributions import Distribution as Distribution
from preceptor.distributions import Head as Head
from preceptor.distributions import Mixture as Mixture
from preceptor.distributions import Projected as Projected
from preceptor.distributions import Sampled as Sampled
from preceptor.distributions import TopK as TopK
from preceptor.distributions import Whole as Whole
from preceptor.distributions import at_least_float32 as at_least_float32
from preceptor.distributions import detached_head as detached_head
from preceptor.distributions import positions as positions
from preceptor.errors import NeedsError, nearest
from preceptor.needs import Kind as Kind
from preceptor.needs import Needs as Needs
from preceptor.needs import Per as Per


class _Shown:
    """What student outputs and teacher signals share: named taps and a classifier."""

    _who = "model"

    def __init__(self, taps: Mapping[str, Tensor] | None, head: Head | None) -> None:
        self.taps: dict[str, Tensor] = dict(taps or {})
        self._head = head

    def tap(self, name: str) -> Tensor:
        """The tensor read at a named module."""
        if name not in self.taps:
            raise NeedsError(
                f"the {self._who}'s tap {name!r} was read",
                f"it shows {', '.join(sorted(self.taps)) or 'no taps'}",
                f"Nearest: {nearest(name, self.taps)}. Name the tap in `layers`.",
            )
        return self.taps[name]

    def has_head(self) -> bool:
        """Whether a classifier is shown."""
        return self._head is not None

    @property
    def head(self) -> Head:
        """The linear classifier."""
        if self._head is None:
            raise missing(
                f"the {self._who}'s classifier",
                "answer",
                "Use a model that ends in one linear layer, or name it with `head`.",
            )
        return self._head


class Outputs(_Shown):
    """What a student shows for a batch: logits [*n, v], or a projection to them; taps; a head."""

    _who = "student"

    def __init__(
        self,
        logits: Float[Tensor, "*n v"] | Projected,
        taps: Mapping[str, Tensor] | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__(taps, head)
        self._shown = logits

    def is_projected(self) -> bool:
        """Whether logits are only ever made a slice of positions at a time."""
        return isinstance(self._shown, Projected)

    @property
    def logits(self) -> Float[Tensor, "*n v"]:
        """The logits of all positions."""
        if isinstance(self._shown, Projected):
            raise NeedsError(
                "the logits of all positions were read at once",
                "this student shows hidden states and its head, and is scored slice by slice",
                "Use an objective that compares position by position.",
            )
        return self._shown

    @property
    def projection(self) -> Projected:
        """Hidden states and the head that makes logits of them."""
        if isinstance(self._shown, Projected):
            return self._shown
        raise missing("a projection", "answer", "Read `logits`.")

    @property
    def shape(self) -> tuple[int, ...]:
        """[*n, v]."""
        if isinstance(self._shown, Projected):
            return (*self._shown.hidden.shape[:-1], len(self._shown.head.weight))
        return tuple(self._shown.shape)

    @property
    def device(self) -> torch.device:
        """Where the answer lies."""
        shown = self._shown.hidden if isinstance(self._shown, Projected) else self._shown
        return shown.device

    def detached(self) -> "Outputs":
        """The same values without their graph."""
        taps = {name: tap.detach() for name, tap in self.taps.items()}
        shown = self._shown.detach() if isinstance(self._shown, Tensor) else self._shown.detached()
        return Outputs(shown, taps, detached_head(self._head))

    def to(self, device: torch.device | str) -> "Outputs":
        """The same on another device; itself where it lies there already."""
        if self.device == torch.device(device):
            return self
        taps = {name: tap.to(device) for name, tap in self.taps.items()}
        head = None if self._head is None else self._head.to(device)
        return Outputs(self._shown.to(device), taps, head)


class Signal(_Shown):
    """A teacher's answer to a batch. Asking for what it does not hold raises a sentence.

    `chunk_log_p`: where the teacher has another tokenisation, log p of the bytes of each chunk
    that both share [*n], at the student's position where the chunk begins; 0 elsewhere.
    """

    _who = "teacher"

    def __init__(
        self,
        distribution: Distribution | None = None,
        taps: Mapping[str, Tensor] | None = None,
        head: Head | None = None,
        chunk_log_p: Float[Tensor, "*n"] | None = None,
    ) -> None:
        super().__init__(taps, head)
        self._distribution, self._chunk_log_p = distribution, chunk_log_p

    @property
    def chunk_log_p(self) -> Float[Tensor, "*n"]:
        """log p of each chunk of bytes, at the student's position where it begins."""
        if self._chunk_log_p is None:
            raise missing(
                "the probability of chunks", "teacher's answer", "Use a live language model."
            )
        return self._chunk_log_p

    def has_distribution(self) -> bool:
        """Whether the teacher gave any."""
        return self._distribution is not None

    @property
    def distribution(self) -> Distribution:
        """The teacher's probabilities, to be read at a temperature."""
        if self._distribution is None:
            raise missing("a distribution", "teacher", "Use a teacher that gives one.")
        return self._distribution

    @property
    def whole(self) -> Whole:
        """The probability of every class, to be read at a temperature."""
        if isinstance(self.distribution, TopK | Sampled):
            raise missing(
                "the probability of every class",
                "teacher's answer",
                "Use a live teacher, or an objective that reads the largest probabilities.",
            )
        return self.distribution

    def at(self, index: Int[Tensor, " n"]) -> "Signal":
        """The distribution at flattened positions; taps and head stay behind."""
        return Signal(None if self._distribution is None else self._distribution.at(index))

    @property
    def logits(self) -> Float[Tensor, "*n v"]:
        """Raw logits, up to one constant a position."""
        if isinstance(self._distribution, Dense) and self._distribution.temperature is None:
            return self._distribution.logits
        raise missing("raw logits", "teacher", "Use a live teacher, or an average of logits.")


@dataclass(frozen=True)
class Term:
    """One named part of a loss, unreduced.

    The loop divides the sum of `values` by a count over the whole optimiser step (all
    micro-batches, all ranks), which it knows before any forward pass because `over` names one of
    the batch's own masks. A weight multiplies and does nothing else.

    Args:
        values: [*n] for per="position", [B] for "example", a scalar for "batch".
        over: which positions count: "all", "labelled" or a mask that the batch names.
        per: what one value is about.
        weight: a factor.
        auto: None, or the share of the gradient that this term's method is to have.
        remember: detached tensors whose first axis is B, handed to the objective's `advance`
            after the optimiser step.
    """

    values: Float[Tensor, "..."]
    over: Over = "all"
    per: Per = "position"
    weight: float = 1.0
    auto: float | None = None
    remember: Mapping[str, Tensor] = field(default_factory=dict)

    def scaled(self, factor: float) -> "Term":
        """The same term with `factor` times the weight."""
        return replace(self, weight=self.weight * factor)


Terms = dict[str, Term]


@dataclass(frozen=True)
class Progress:
    """How far a stage has come: `step` steps done of `steps`, `epoch` epochs (a float)."""

    step: int
    steps: int
    epoch: float = 0.0

    @property
    def fraction(self) -> float:
        """The share of the stage that is done, 0 to 1."""
        return min(1.0, self.step / max(1, self.steps))


@dataclass(frozen=True)
class Context:
    """What an objective knows when it builds its auxiliary modules: one dry pass, and the data.

    Args:
        student: outputs of two examples, with every tap that the objective reads.
        teacher: the signal for the same two.
        num_classes: v.
        num_examples: how many ids there are; ids are 0 to num_examples - 1.
        labels: each id's label, -1 where it has none; empty where the data has no labels.
        parameters: the student's own, by name, as they are when the stage begins; not copies.
    """

    student: Outputs
    teacher: Signal
    num_classes: int
    num_examples: int
    labels: Int[Tensor, " b"]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
