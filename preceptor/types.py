"""What flows through a run: batches, outputs, signals, terms, progress; `needs` stands beside.

Dimension key: *n positions ([B] for images, [B, T] for text), b examples, v classes, d width,
k members of a mixture. The class axis is always last.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from preceptor.errors import NeedsError, nearest
from preceptor.needs import Kind as Kind
from preceptor.needs import Needs as Needs
from preceptor.needs import Per as Per

Over = Literal["all", "labelled"]
Inputs = Tensor | Mapping[str, Tensor]


def _missing(what: str, holder: str, do: str) -> NeedsError:
    return NeedsError(f"{what} was read", f"this {holder} does not hold it", do)


class Batch:
    """Some examples, as every model, teacher and objective sees them.

    Args:
        inputs: pixels in [0, 1] as [B, C, H, W], or a mapping of tensors whose first axis is B.
        labels: class indices [*n]; -1 where a position has no label.
        mask: positions that count [*n]; all of them where not given. Comes from lengths.
        labelled: positions whose label may be read [*n]; where not given, those with a label >= 0.
        ids: a name for each example [B], the same in every epoch; caches and memories key on it.
        view: the augmentation's number for each example [B], a pure function of seed, epoch and
            example; 0 means the plain example.
        teacher_inputs: what the teacher sees, where that differs from `inputs`.
        origin: who wrote the examples: "data", "student" or "teacher".
        extra: further tensors whose first axis is B.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        labels: Int[Tensor, "*n"] | None = None,
        mask: Bool[Tensor, "*n"] | None = None,
        labelled: Bool[Tensor, "*n"] | None = None,
        ids: Int[Tensor, " b"] | None = None,
        view: Int[Tensor, " b"] | None = None,
        teacher_inputs: Inputs | None = None,
        origin: str = "data",
        extra: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.inputs = inputs
        self.origin = origin
        self.extra = dict(extra or {})
        self._labels, self._mask, self._labelled = labels, mask, labelled
        self._ids, self._view, self._teacher_inputs = ids, view, teacher_inputs

    def __len__(self) -> int:
        return len(_any_tensor(self.inputs))

    def __repr__(self) -> str:
        return f"Batch({len(self)} examples, origin={self.origin!r})"

    @property
    def labels(self) -> Int[Tensor, "*n"]:
        """Class indices; -1 where there is no label."""
        if self._labels is None:
            raise _missing(
                "a label", "batch", "Give the data labels, or an objective without them."
            )
        return self._labels

    @property
    def ids(self) -> Int[Tensor, " b"]:
        """The examples' names."""
        if self._ids is None:
            raise _missing("an example's id", "batch", "Give `ids=` one integer an example.")
        return self._ids

    @property
    def view(self) -> Int[Tensor, " b"]:
        """The augmentations' numbers; zeros where nothing is augmented."""
        if self._view is None:
            return torch.zeros(len(self), dtype=torch.int64, device=_any_tensor(self.inputs).device)
        return self._view

    @property
    def teacher_inputs(self) -> Inputs:
        """What the teacher sees: the student's inputs unless something else was given."""
        return self.inputs if self._teacher_inputs is None else self._teacher_inputs

    def mask(self, over: Over) -> Bool[Tensor, "*n"]:
        """Positions that count: "all" unmasked ones, or those of them that are "labelled"."""
        device = _any_tensor(self.inputs).device
        if self._mask is not None:
            every = self._mask
        elif self._labels is not None:
            every = torch.ones_like(self._labels, dtype=torch.bool)
        else:
            every = torch.ones(len(self), dtype=torch.bool, device=device)
        if over == "all":
            return every
        if self._labelled is not None:
            return every & self._labelled
        if self._labels is not None:
            return every & (self._labels >= 0)
        return torch.zeros_like(every)

    def to(self, device: torch.device | str) -> "Batch":
        """The same examples on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def rows(self, start: int, stop: int) -> "Batch":
        """The examples from `start` up to `stop`."""
        return self._each(lambda tensor: tensor[start:stop])

    def _each(self, change: Any) -> "Batch":
        return Batch(**{name: map_tensors(value, change) for name, value in self.fields().items()})

    def fields(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return {
            "inputs": self.inputs,
            "labels": self._labels,
            "mask": self._mask,
            "labelled": self._labelled,
            "ids": self._ids,
            "view": self._view,
            "teacher_inputs": self._teacher_inputs,
            "origin": self.origin,
            "extra": self.extra,
        }


@dataclass(frozen=True)
class Head:
    """A linear classifier: logits = x @ weight.T + bias."""

    weight: Float[Tensor, "v d"]
    bias: Float[Tensor, " v"] | None = None


@dataclass(frozen=True)
class Dense:
    """A distribution given by logits over all classes.

    `temperature` is None for raw logits, which answer at any temperature; a number where the
    logits are T log p of probabilities that exist at this T alone (an average of past ones).
    """

    logits: Float[Tensor, "*n v"]
    temperature: float | None = None

    def log_probs(self, temperature: float) -> Float[Tensor, "*n v"]:
        """log softmax(logits / temperature), in float32 or better."""
        if self.temperature is not None and temperature != self.temperature:
            raise NeedsError(
                f"the teacher's probabilities were read at temperature {temperature:g}",
                f"they exist at {self.temperature:g} alone",
                f"Set the objective's temperature to {self.temperature:g}.",
            )
        return torch.log_softmax(at_least_float32(self.logits) / temperature, dim=-1)


@dataclass(frozen=True)
class Mixture:
    """A weighted mean of several members' probabilities, at whatever temperature it is read.

    `weights` are [k, *n] and sum to one over k.
    """

    members: tuple[Dense, ...]
    weights: Float[Tensor, "k *n"]

    def log_probs(self, temperature: float) -> Float[Tensor, "*n v"]:
        """log sum_k w_k softmax(logits_k / temperature), computed in log space."""
        each = torch.stack([member.log_probs(temperature) for member in self.members])
        return torch.logsumexp(each + self.weights.to(each.dtype).log().unsqueeze(-1), dim=0)


Distribution = Dense | Mixture


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
            raise _missing(
                f"the {self._who}'s classifier",
                "answer",
                "Use a model that ends in one linear layer, or name it with `head`.",
            )
        return self._head


class Outputs(_Shown):
    """What a student shows for a batch: logits [*n, v], taps, and its classifier."""

    _who = "student"

    def __init__(
        self,
        logits: Float[Tensor, "*n v"],
        taps: Mapping[str, Tensor] | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__(taps, head)
        self.logits = logits

    def detached(self) -> "Outputs":
        """The same values without their graph."""
        taps = {name: tap.detach() for name, tap in self.taps.items()}
        return Outputs(self.logits.detach(), taps, detached_head(self._head))


class Signal(_Shown):
    """A teacher's answer to a batch. Asking for what it does not hold raises a sentence."""

    _who = "teacher"

    def __init__(
        self,
        distribution: Distribution | None = None,
        taps: Mapping[str, Tensor] | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__(taps, head)
        self._distribution = distribution

    def has_distribution(self) -> bool:
        """Whether the teacher gave any."""
        return self._distribution is not None

    @property
    def distribution(self) -> Distribution:
        """The teacher's probabilities, to be read at a temperature."""
        if self._distribution is None:
            raise _missing("a distribution", "teacher", "Use a teacher that gives one.")
        return self._distribution

    @property
    def logits(self) -> Float[Tensor, "*n v"]:
        """Raw logits, up to one constant a position."""
        if isinstance(self._distribution, Dense) and self._distribution.temperature is None:
            return self._distribution.logits
        raise _missing("raw logits", "teacher", "Use a live teacher, or an average of logits.")


@dataclass(frozen=True)
class Term:
    """One named part of a loss, unreduced.

    The loop divides the sum of `values` by a count over the whole optimiser step (all
    micro-batches, all ranks), which it knows before any forward pass because `over` names one of
    the batch's own masks. A weight multiplies and does nothing else.

    Args:
        values: [*n] for per="position", [B] for "example", a scalar for "batch".
        over: which positions count.
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
    """

    student: Outputs
    teacher: Signal
    num_classes: int
    num_examples: int
    labels: Int[Tensor, " b"]


def _any_tensor(inputs: Inputs) -> Tensor:
    return inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))


def map_tensors(value: Any, change: Any) -> Any:
    """`value` with `change` applied to every tensor in it; mappings and sequences are walked."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map_tensors(item, change) for item in value)
    return value


def detached_head(head: Head | None) -> Head | None:
    """A classifier without its graph; None stays None."""
    if head is None:
        return None
    return Head(head.weight.detach(), None if head.bias is None else head.bias.detach())


def at_least_float32(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """float16 and bfloat16 become float32; float32 and float64 stay."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def positions(shape: Sequence[int]) -> int:
    """How many positions a shape [*n, v] has."""
    return math.prod(shape[:-1])
