"""What one micro-batch is worth: terms, their values, and the loss that is sent back.

A student that shows hidden states and a head is scored a slice of positions at a time
(`ops.projection`); an objective that compares position by position sees plain slices and does not
know it.

Dimension key: n positions that count, r of them in a block, v classes, d width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.errors import NeedsError
from preceptor.objectives.base import Sum, Weighted, group
from preceptor.objectives.reduction import total
from preceptor.ops.closed_forms import ClosedForm, Sides
from preceptor.ops.projection import by_autograd, projected
from preceptor.types import (
    Batch,
    Dense,
    Distribution,
    Outputs,
    Projected,
    Signal,
    Term,
    Terms,
)


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

    Methods that say their closed form are scored by it, the others by autograd. `terms` and `sums`
    fill while slices pass.
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
        self._teacher = _Teacher(self.signal, self.index)
        self._closed: dict[str, tuple[Weighted, ClosedForm]] = {}
        for label, member in zip(self.objective.labels(), self.objective.members, strict=True):
            form = member.closed_form() if label in self.labels else None
            if form is not None and form.covers(self._teacher.whole):
                self._closed[label] = member, form
        self._others = [label for label in self.labels if label not in self._closed]

    def scored(self, outputs: Outputs) -> Scored:
        """Evaluates all slices; gradients of hidden states and head are taken on the way."""
        shown = outputs.projection
        hidden = shown.hidden.flatten(0, -2)
        if len(self.index) < len(hidden):
            hidden = hidden[self.index]
        loss = projected(hidden, shown.head, self)
        return Scored(self.terms, self.sums, {self.labels[0]: loss})

    def begin(self, rows: slice) -> None:
        """Takes the teacher's part of a slice, and the batch's."""
        self._teacher.begin(rows)
        self._slice = rows, self.batch.at(self.index[rows])

    def value(self, logits: Float[Tensor, "r v"], rows: slice) -> Float[Tensor, ""]:
        """A block's share of the weighted loss."""
        return self._value(logits, rows, self.labels)

    def gradient_(self, logits: Float[Tensor, "r v"], rows: slice) -> Float[Tensor, ""] | None:
        """The same with its gradient, where any of the methods has a closed form."""
        if not self._closed:
            return None
        batch, labels = self._positions(rows), None
        if any(form.kind == "cross_entropy" for _, form in self._closed.values()):
            labels = batch.labels.masked_fill(~batch.mask("labelled"), -1)
        sides = Sides(logits, self._teacher.at(rows), labels, finite=self._teacher.finite)
        parts = [self._evaluated(label, sides, batch) for label in self._closed]
        if self._others:
            parts.append(by_autograd(lambda z: self._value(z, rows, self._others), logits))
        logits.copy_(parts[0][1])
        for _, slope in parts[1:]:
            logits.add_(slope)
        return torch.stack([value for value, _ in parts]).sum()

    def _evaluated(self, label: str, sides: Sides, batch: Batch) -> tuple[Tensor, Tensor]:
        """A closed form's share of the weighted loss, and its gradient."""
        member, form = self._closed[label]
        values, slope = sides.evaluate(form, gradient=True)
        assert slope is not None
        term = member.weighted({label: Term(form.factor * values, over=form.over)})[label]
        worth = self.worth(label, term)
        slope.mul_(worth.weight * worth.share * form.factor / form.temperature)
        if form.over != "all":
            slope.masked_fill_(~batch.mask(form.over).unsqueeze(-1), 0.0)
        return self._add(label, term, batch), slope

    def _value(self, logits: Tensor, rows: slice, labels: Sequence[str]) -> Tensor:
        batch, held = self._positions(rows), self._teacher.at(rows)
        seen = Outputs(logits), Signal(held), batch
        found = self.objective.terms_seen(lambda _: seen, self.aux, labels)
        return torch.stack([self._add(name, term, batch) for name, term in found.items()]).sum()

    def _positions(self, rows: slice) -> Batch:
        whole, batch = self._slice
        return batch.rows(rows.start - whole.start, rows.stop - whole.start)

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


class _Teacher:
    """A teacher's answer at the positions that count: products once a slice, views of its blocks.

    `finite` says that no class is ruled out, so that nobody need look for infinities.
    """

    def __init__(self, signal: Signal, index: Tensor) -> None:
        self.whole = signal.distribution if signal.has_distribution() else None
        self.index = index
        self.finite = isinstance(self.whole, Projected) and self.whole.head.bias is None

    def begin(self, rows: slice) -> None:
        """Lays out a slice."""
        self._start, index = rows.start, self.index[rows]
        if isinstance(self.whole, Projected):
            hidden = self.whole.hidden.flatten(0, -2)[index]
            self._held = Dense(self.whole.head.product(hidden))
        else:
            self._held = None if self.whole is None else self.whole.at(index)

    def at(self, rows: slice) -> Distribution | None:
        """The answer at a block of the slice."""
        start, stop = rows.start - self._start, rows.stop - self._start
        if not isinstance(self._held, Dense):
            block = torch.arange(start, stop, device=self.index.device)
            return None if self._held is None else self._held.at(block)
        logits = self._held.logits[start:stop]
        if isinstance(self.whole, Projected):
            logits = self.whole.head.finished(logits)
        return Dense(logits, self._held.temperature)
