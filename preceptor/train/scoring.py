"""What one micro-batch is worth: terms, their values, and the loss that is sent back.

A student that shows hidden states and a head is scored a slice of positions at a time
(`ops.projection`); an objective that compares position by position sees plain slices and does not
know it.

Dimension key: n positions that count, c of them in a slice, v classes, d width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.errors import NeedsError
from preceptor.objectives.base import Sum, group
from preceptor.objectives.reduction import total
from preceptor.ops.projection import projected
from preceptor.types import Batch, Outputs, Signal, Term, Terms


class Worth(NamedTuple):
    """A term's weight in the loss, and what its sum over positions is multiplied by first."""

    weight: float
    share: float


@final
@dataclass(frozen=True)
class Scored:
    """Terms by name, their reduced and unweighted values, and the weighted loss of each method.

    Methods that were scored together have one loss, under the first one's name.
    """

    terms: Terms
    values: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]

    @classmethod
    def of(
        cls, terms: Terms, values: Mapping[str, Tensor], weight: Callable[[str, Term], float]
    ) -> "Scored":
        """From values that have their graph."""
        methods: dict[str, list[Tensor]] = {}
        for name, value in values.items():
            methods.setdefault(group(name), []).append(weight(name, terms[name]) * value)
        return cls(terms, values, {n: torch.stack(each).sum() for n, each in methods.items()})

    def beside(self, other: "Scored") -> "Scored":
        """Both."""
        return Scored(
            {**self.terms, **other.terms},
            {**self.values, **other.values},
            {**self.losses, **other.losses},
        )


def by_position(objective: Sum) -> tuple[str, ...]:
    """The labels of the methods that can be scored a slice of positions at a time."""
    found: list[str] = []
    for label, member in zip(objective.labels(), objective.members, strict=True):
        needs = member.needs()
        inside = needs.student_taps or needs.teacher_taps or needs.student_head
        if needs.scope == "position" and not inside and not needs.teacher_head:
            found.append(label)
    return tuple(found)


@final
@dataclass
class Share:
    """Some methods of an objective, on the positions of a micro-batch that count.

    `terms` and `sums` fill while slices pass.
    """

    objective: Sum
    labels: Sequence[str]
    signal: Signal
    batch: Batch
    aux: nn.ModuleList
    worth: Callable[[str, Term], Worth]
    terms: Terms = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = self.batch.mask("all").flatten().nonzero().squeeze(1)

    def scored(self, outputs: Outputs) -> Scored:
        """Evaluates all slices; gradients of hidden states and head are taken on the way."""
        shown = outputs.projection
        hidden = shown.hidden.flatten(0, -2)[self.index]
        loss = projected(hidden, shown.head, self)
        return Scored(self.terms, self.sums, {self.labels[0]: loss})

    def value(self, logits: Float[Tensor, "c v"], rows: slice) -> Float[Tensor, ""]:
        """A slice's share of the weighted loss."""
        index = self.index[rows]
        batch = self.batch.at(index)
        seen = Outputs(logits), self.signal.at(index), batch
        found = self.objective.terms_seen(lambda _: seen, self.aux, self.labels)
        return torch.stack([self._add(name, term, batch) for name, term in found.items()]).sum()

    def gradient_(self, logits: Float[Tensor, "c v"], rows: slice) -> Float[Tensor, ""] | None:
        """No closed form."""
        del logits, rows
        return None

    def _add(self, name: str, term: Term, batch: Batch) -> Float[Tensor, ""]:
        if term.per != "position" or term.remember:
            raise NeedsError(
                f"{name} counts per {term.per} and was scored by slices of positions",
                "a slice holds single positions, not whole examples",
                "Let `needs().scope` say what the method compares.",
            )
        weight, share = self.worth(name, term)
        value = total(term, batch) * share
        self.terms.setdefault(name, replace(term, values=value.detach()))
        held = self.sums.get(name)
        self.sums[name] = value.detach() if held is None else held + value.detach()
        return weight * value
