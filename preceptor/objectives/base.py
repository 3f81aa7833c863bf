"""What an objective is: a value with one pure method, closed under + and *.

    loss = 0.1 * CrossEntropy() + 0.9 * KD(temperature=4)

A concrete objective is a frozen dataclass of hyper-parameters in a file of its own. It says what
it reads (`needs`) and turns student outputs, a teacher's signal and a batch into named, unreduced
terms. It never sees the loop, the models or time.

Dimension key: *n positions ([B] or [B, T]), b examples, v classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, TypeVar, cast, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from preceptor.errors import NeedsError, RecipeError
from preceptor.fields import check_ranges
from preceptor.needs import LayerKind as LayerKind
from preceptor.needs import Pairing as Pairing
from preceptor.objectives._layers import Choice as Choice
from preceptor.objectives._layers import Layers as Layers
from preceptor.objectives._layers import Pair as Pair
from preceptor.objectives._layers import pair_needs as pair_needs
from preceptor.objectives._plain import batch_of, shown
from preceptor.objectives.reduction import mean_loss
from preceptor.objectives.schedules import Auto, Ramp, product
from preceptor.ops.closed_forms import ClosedForm
from preceptor.types import (
    Batch,
    Context,
    Head,
    Needs,
    Outputs,
    Progress,
    Signal,
    Terms,
)

Aux = TypeVar("Aux", bound=nn.Module)


class Objective(ABC, Generic[Aux]):
    """What is minimised. Concrete methods are frozen dataclasses and are never subclassed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    reads: ClassVar[LayerKind | None] = None
    """What `layers: auto` means for this method; None where it reads no layers."""

    signed: ClassVar[bool] = False
    """Whether a term that reads the teacher may be below zero: a policy gradient's, say."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @abstractmethod
    def needs(self) -> Needs:
        """What this objective reads."""

    @abstractmethod
    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: Aux) -> Terms:
        """Named, unreduced terms. Pure: same arguments, same answer; the teacher gets no gradient.

        A name is the method's name, or the method's name, a dot and a part ("dkd.target").
        """

    def closed_form(self) -> ClosedForm | None:
        """What `terms` computes, where it is one term with a gradient that is written down."""
        return None

    def auxiliary(self, context: Context) -> Aux:
        """The modules that the method trains or remembers beside the student: none by default.

        The loop moves, optimises and saves what is returned. A module with a method
        `graft(student)` changes the student that is saved.
        """
        del context
        return cast("Aux", nn.Module())

    def advance(
        self, aux: Aux, remembered: Mapping[str, Tensor], losses: Mapping[str, float], at: Progress
    ) -> None:
        """Move `aux` once, after an optimiser step; `remembered` holds the whole step's rows."""

    def at(self, progress: Progress) -> "Objective":
        """This objective with its schedules settled."""
        del progress
        return self

    def settled(self, pairs: Callable[[Choice], Layers]) -> "Objective":
        """This objective with `layers: auto` replaced by names."""
        if self.reads is None or getattr(self, "layers", None) != "auto":
            return self
        said = {f.name: getattr(self, f.name) for f in fields(Choice)[1:] if hasattr(self, f.name)}
        changes: dict[str, Any] = {"layers": pairs(Choice(self.reads, **said))}
        return replace(cast("Any", self), **changes)

    @property
    def name(self) -> str:
        """The method's name: its file's."""
        return type(self).__module__.rpartition(".")[2]

    @final
    def on(
        self,
        *,
        student_logits: Float[Tensor, "*n v"],
        teacher_logits: Float[Tensor, "... w"] | None = None,
        labels: Tensor | None = None,
        student_taps: Mapping[str, Tensor] | None = None,
        teacher_taps: Mapping[str, Tensor] | None = None,
        student_head: Head | None = None,
        teacher_head: Head | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        labelled: Bool[Tensor, "..."] | None = None,
        ids: Int[Tensor, "..."] | None = None,
        aux: Aux | None = None,
        remembered: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss on plain tensors, for anyone's own loop: weighted means, added up.

        >>> from preceptor.objectives.kd import KD
        >>> logits = torch.zeros(2, 3)
        >>> KD(temperature=4.0).on(student_logits=logits, teacher_logits=logits)
        tensor(0.)

        Args:
            student_logits, teacher_logits: [*n, v], the class axis last.
            labels: class indices [*n]; below 0 where a position has none.
            student_taps, teacher_taps: tensors by the names that `layers` gives them, [B, ...].
            student_head, teacher_head: the linear classifiers.
            mask: positions that count [*n]; tokens [B, T] where only layers are compared.
            labelled: positions whose label may be read [*n].
            ids: each example's number [B], the same in every epoch.
            aux: what `auxiliary(context_on(...))` returned, for methods with modules of their own.
            remembered: an empty dictionary that receives what a method with a memory (CRD) wants
                after the optimiser step: `objective.advance(aux, remembered, {}, progress)`.

        Raises:
            NeedsError: something that the method reads was not given.
            ModelError, DataError: tensors that do not fit one another.
        """
        if aux is None and self.has_auxiliary():
            raise NeedsError(
                f"{self.name}.on() was called without `aux`",
                "this method trains or remembers something beside the student",
                "Build it once, `aux = objective.auxiliary(objective.context_on(...))` with the "
                "tensors of one batch, and pass it as `aux=`.",
            )
        needs, taps, heads = (
            self.needs(),
            (student_taps, teacher_taps),
            (student_head, teacher_head),
        )
        student, teacher = shown(needs, student_logits, teacher_logits, taps, heads)
        batch = batch_of(
            needs, student_logits, labels=labels, mask=mask, labelled=labelled, ids=ids
        )
        modules = aux
        if modules is None:
            none = torch.empty(0, dtype=torch.int64, device=student_logits.device)
            classes = student_logits.shape[-1]
            modules = self.auxiliary(Context(student, teacher, classes, 0, none))
        terms = self.terms(student, teacher, batch, modules)
        if remembered is not None:
            for name, term in terms.items():
                remembered |= {f"{name}/{key}": rows for key, rows in term.remember.items()}
        return mean_loss(terms, batch)

    @final
    def context_on(
        self,
        *,
        student_logits: Float[Tensor, "*n v"],
        teacher_logits: Float[Tensor, "... w"] | None = None,
        student_taps: Mapping[str, Tensor] | None = None,
        teacher_taps: Mapping[str, Tensor] | None = None,
        student_head: Head | None = None,
        teacher_head: Head | None = None,
        num_examples: int = 0,
        all_labels: Int[Tensor, " n"] | None = None,
    ) -> Context:
        """What `auxiliary` asks for, from the plain tensors of any one batch.

            aux = objective.auxiliary(objective.context_on(student_logits=..., student_taps=...))

        Its parameters belong to the optimizer, and `.to(device)` is the caller's. `num_examples`
        and `all_labels` (each id's, where there are any) are read by methods with a memory alone.
        """
        taps, heads = (student_taps, teacher_taps), (student_head, teacher_head)
        student, teacher = shown(self.needs(), student_logits, teacher_logits, taps, heads)
        labels = torch.empty(0, dtype=torch.int64) if all_labels is None else all_labels
        return Context(
            student.detached(),
            teacher,
            student_logits.shape[-1],
            max(num_examples, len(labels)),
            labels,
        )

    def has_auxiliary(self) -> bool:
        """Whether `auxiliary` returns anything of its own."""
        return type(self).auxiliary is not Objective.auxiliary

    def parts(self) -> "tuple[Weighted, ...]":
        """The methods in this objective, each with its weight."""
        return (Weighted(self, 1.0),)

    def __add__(self, other: "Objective") -> "Sum":
        return Sum((*self.parts(), *other.parts()))

    def __mul__(self, weight: "float | Ramp | Auto") -> "Weighted":
        return Weighted(self, weight)

    __rmul__ = __mul__


@final
@dataclass(frozen=True)
class Weighted(Objective[nn.Module]):
    """An objective times a weight: a number, a `Ramp`, or `Auto`."""

    part: Objective[Any]
    weight: float | Ramp | Auto

    def needs(self) -> Needs:
        """What the part reads."""
        return self.part.needs()

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """The part's terms, scaled."""
        return self.weighted(self.part.terms(student, teacher, batch, aux))

    def weighted(self, terms: Terms) -> Terms:
        """The part's terms with this weight."""
        if isinstance(self.weight, Auto):
            return {name: replace(term, auto=self.weight.share) for name, term in terms.items()}
        if isinstance(self.weight, Ramp):
            raise RecipeError(
                f"a weight that moves was read ({self.weight})",
                "an objective does not know the time",
                "Call `objective.at(progress)` first and use what it returns.",
            )
        return {name: term.scaled(self.weight) for name, term in terms.items()}

    def closed_form(self) -> ClosedForm | None:
        """The part's, without the weight."""
        return self.part.closed_form()

    def auxiliary(self, context: Context) -> nn.Module:
        """The part's modules."""
        return self.part.auxiliary(context)

    def has_auxiliary(self) -> bool:
        """Whether the part has modules."""
        return self.part.has_auxiliary()

    def advance(
        self,
        aux: nn.Module,
        remembered: Mapping[str, Tensor],
        losses: Mapping[str, float],
        at: Progress,
    ) -> None:
        """Moves the part's modules."""
        self.part.advance(aux, remembered, losses, at)

    def at(self, progress: Progress) -> "Weighted":
        """With the weight settled."""
        part = self.part.at(progress)
        if isinstance(self.weight, Ramp):
            return Weighted(part, self.weight.at(progress))
        return self if part is self.part else Weighted(part, self.weight)

    def settled(self, pairs: Callable[[Choice], Layers]) -> "Weighted":
        """With the part's layers settled."""
        return Weighted(self.part.settled(pairs), self.weight)

    @property
    def name(self) -> str:
        """The part's name."""
        return self.part.name

    def parts(self) -> "tuple[Weighted, ...]":
        """The part's parts, with this weight multiplied in."""
        if not isinstance(self.part, Weighted | Sum):
            return (self,)
        return tuple(Weighted(p.part, product(p.weight, self.weight)) for p in self.part.parts())


@final
@dataclass(frozen=True)
class Sum(Objective[nn.ModuleList]):
    """Several objectives at once. A method that stands twice has its terms numbered ("kd#2")."""

    members: tuple[Weighted, ...]

    def needs(self) -> Needs:
        """What all members read together."""
        needs = Needs()
        for member in self.members:
            needs = needs | member.needs()
        return needs

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        """All members' terms."""
        return self.terms_seen(lambda _: (student, teacher, batch), aux)

    def terms_seen(
        self,
        seen: Callable[[Weighted], tuple[Outputs, Signal, Batch]],
        aux: nn.ModuleList,
        only: Collection[str] | None = None,
    ) -> Terms:
        """All members' terms, where each member is shown its own view (gathered rows, say).

        `only` names the members that are asked, by their labels.
        """
        terms: Terms = {}
        for label, member, module in zip(self.labels(), self.members, aux, strict=True):
            if only is not None and label not in only:
                continue
            for name, term in member.terms(*seen(member), module).items():
                _, dot, detail = name.partition(".")
                terms[label + dot + detail] = term
        return terms

    def labels(self) -> tuple[str, ...]:
        """Each member's name in the terms: the method's, numbered from its second standing on."""
        names = [member.name for member in self.members]
        seen = [names[: index + 1].count(name) for index, name in enumerate(names)]
        return tuple(n if k == 1 else f"{n}#{k}" for n, k in zip(names, seen, strict=True))

    def auxiliary(self, context: Context) -> nn.ModuleList:
        """One module a member."""
        return nn.ModuleList(member.auxiliary(context) for member in self.members)

    def has_auxiliary(self) -> bool:
        """Whether any member has modules."""
        return any(member.has_auxiliary() for member in self.members)

    def advance(
        self,
        aux: nn.ModuleList,
        remembered: Mapping[str, Tensor],
        losses: Mapping[str, float],
        at: Progress,
    ) -> None:
        """Moves each member's modules with what that member remembered, and its own losses."""
        for label, member, module in zip(self.labels(), self.members, aux, strict=True):
            own = {
                key.partition("/")[2]: tensor
                for key, tensor in remembered.items()
                if group(key.partition("/")[0]) == label
            }
            its = {
                member.name + name.removeprefix(label): loss
                for name, loss in losses.items()
                if group(name) == label
            }
            member.advance(module, own, its, at)

    def at(self, progress: Progress) -> "Sum":
        """With all weights settled."""
        members = tuple(member.at(progress) for member in self.members)
        same = all(now is then for now, then in zip(members, self.members, strict=True))
        return self if same else Sum(members)

    def settled(self, pairs: Callable[[Choice], Layers]) -> "Sum":
        """With all layers settled."""
        return Sum(tuple(member.settled(pairs) for member in self.members))

    @property
    def name(self) -> str:
        """All labels, joined."""
        return "+".join(self.labels())

    def parts(self) -> tuple[Weighted, ...]:
        """The members."""
        return tuple(part for member in self.members for part in member.parts())


def group(term_name: str) -> str:
    """The method that a term belongs to.

    >>> group("dkd.target"), group("kd#2")
    ('dkd', 'kd#2')
    """
    return term_name.partition(".")[0]
