"""How a recipe names a teacher: one key says which kind, its fields the rest."""

from typing import Annotated, Literal

from annotated_types import Ge, Lt
from pydantic import Discriminator, Field, Tag, model_validator

from preceptor.fields import Count, NonNegative
from preceptor.recipe.alterations import AlterationFields
from preceptor.recipe.language_teachers import BaseTeacher, Keep, Nothing, ServedTeacher
from preceptor.recipe.live_teacher import AnyPlan as AnyPlan
from preceptor.recipe.live_teacher import LiveTeacher
from preceptor.recipe.models import AnyModel
from preceptor.recipe.problems import invalid
from preceptor.recipe.ranked import RankTeacher
from preceptor.recipe.section import Section, which

Decay = Annotated[float, Ge(0), Lt(1)]


class NobodyTeacher(Section):
    """No teacher: for methods that learn from labels or from themselves."""

    nobody: Nothing = Nothing()


class EnsembleFields(Section):
    """Several teachers at once.

    Args:
        members: one or more teachers.
        combine: the mean of probabilities, or of logits.
        weights: the same for all; fixed numbers that add up to 1; or for each example by the
            members' confidence, or by their agreement with the label.
    """

    members: Annotated[tuple["AnyTeacher", ...], Field(min_length=1)]
    combine: Literal["probabilities", "logits"] = "probabilities"
    weights: tuple[NonNegative, ...] | Literal["uniform", "confidence", "agreement"] = "uniform"

    @model_validator(mode="after")
    def _members_answer_alone(self) -> "EnsembleFields":
        for index, member in enumerate(self.members):
            if isinstance(
                member,
                NobodyTeacher | PeersTeacher | BornAgainTeacher | CachedTeacher | RankTeacher,
            ):
                why = "it has no answer of its own to average"
                do = "Name models, ensembles or averages; to cache an ensemble, cache the whole."
                raise invalid(kind_of(member), why, do, ("members", index))
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> "EnsembleFields":
        if isinstance(self.weights, str):
            return self
        if len(self.weights) != len(self.members):
            why = f"{len(self.weights)} weights for {len(self.members)} members"
            raise invalid("", why, "Give one weight a member.", ("weights",))
        if abs(sum(self.weights) - 1) > 1e-6:
            why = f"they add up to {sum(self.weights):g}, and must to 1"
            raise invalid(str(list(self.weights)), why, "Divide each by their sum.", ("weights",))
        return self


class EnsembleTeacher(Section):
    """Several teachers at once."""

    ensemble: EnsembleFields


class EmaFields(Section):
    """An average of the student's past weights.

    Args:
        decay: how much of the average stays at each step; 0 to below 1.
    """

    decay: Decay = 0.999


class EmaTeacher(Section):
    """An average of the student's past weights."""

    ema: EmaFields


class SnapshotsFields(Section):
    """The student as it stood after certain steps.

    Args:
        at: the optimiser steps after which a snapshot is taken, or after every so many.
        last: how many of the latest answer together, by the mean of their probabilities.
    """

    at: Count | Annotated[tuple[Count, ...], Field(min_length=1)]
    last: Count = 1


class SnapshotsTeacher(Section):
    """The student as it stood after certain steps."""

    snapshots: SnapshotsFields


class BornAgainFields(Section):
    """The same student, trained before: each generation is taught by the one before it.

    Args:
        generations: how many after the first, which learns from labels alone.
    """

    generations: Count = 1


class BornAgainTeacher(Section):
    """The same student, trained before."""

    born_again: BornAgainFields


class PeersFields(Section):
    """Mutual learning: the recipe's student is the first of a cohort, these are the others.

    Args:
        others: one or more models, each starting at random; each is reported.
    """

    others: Annotated[tuple[AnyModel, ...], Field(min_length=1)]


class PeersTeacher(Section):
    """The students of a cohort, each the others' teacher."""

    peers: PeersFields


class PastPredictionsFields(Section):
    """The student's own past predictions for each example, or an average of them.

    Args:
        momentum: how much of the average stays at each visit, 0 to below 1; 0 for the last
            answer alone (PS-KD), 0.6 in temporal ensembling.
    """

    momentum: Decay = 0.0


class PastPredictionsTeacher(Section):
    """The student's own past predictions, or an average of them."""

    past_predictions: PastPredictionsFields


class AlteredFields(AlterationFields):
    """A teacher whose answers are spoilt on purpose: exactly one of four ways.

    Args:
        teacher: whose answers; a classifier or a language model that gives logits.
    """

    teacher: "AnyTeacher"

    @model_validator(mode="after")
    def _somebody_answers(self) -> "AlteredFields":
        if isinstance(
            self.teacher, NobodyTeacher | PeersTeacher | BornAgainTeacher | CachedTeacher
        ):
            why = "it has no answer of its own to alter"
            do = "Name a model, an ensemble or an average."
            raise invalid(kind_of(self.teacher), why, do, ("teacher",))
        return self


class AlteredTeacher(Section):
    """A teacher whose answers are spoilt on purpose."""

    altered: AlteredFields


class CachedFields(Section):
    """A teacher whose signals are written to disk once and read from then on.

    Args:
        teacher: whose.
        folder: where they are kept.
        keep: of a language model's answers, what is kept; images' logits are kept whole.
    """

    teacher: "AnyTeacher"
    folder: str
    keep: Keep | None = None

    @model_validator(mode="after")
    def _stands_still(self) -> "CachedFields":
        _require_still(self.teacher, ("teacher",))
        return self


class CachedTeacher(Section):
    """A teacher read from disk."""

    cached: CachedFields


TEACHER_KEYS = (
    "model",
    "nobody",
    "ensemble",
    "ema",
    "snapshots",
    "born_again",
    "peers",
    "past_predictions",
    "cached",
    "altered",
    "served",
    "base",
    "rank",
)

AnyTeacher = Annotated[
    Annotated[LiveTeacher, Tag("<model>")]
    | Annotated[NobodyTeacher, Tag("<nobody>")]
    | Annotated[EnsembleTeacher, Tag("<ensemble>")]
    | Annotated[EmaTeacher, Tag("<ema>")]
    | Annotated[SnapshotsTeacher, Tag("<snapshots>")]
    | Annotated[BornAgainTeacher, Tag("<born_again>")]
    | Annotated[PeersTeacher, Tag("<peers>")]
    | Annotated[PastPredictionsTeacher, Tag("<past_predictions>")]
    | Annotated[CachedTeacher, Tag("<cached>")]
    | Annotated[AlteredTeacher, Tag("<altered>")]
    | Annotated[ServedTeacher, Tag("<served>")]
    | Annotated[BaseTeacher, Tag("<base>")]
    | Annotated[RankTeacher, Tag("<rank>")],
    Discriminator(
        which(*TEACHER_KEYS),
        custom_error_type="which",
        custom_error_message="names not exactly one kind",
    ),
]


def kind_of(teacher: Section) -> str:
    """The key that says which kind of teacher it is.

    >>> kind_of(NobodyTeacher())
    'nobody'
    """
    return next(key for key in TEACHER_KEYS if hasattr(teacher, key))


def unaltered(teacher: AnyTeacher) -> AnyTeacher:
    """Whose answers are read in the end: behind a cache, behind an alteration.

    >>> unaltered(NobodyTeacher()).nobody
    Nothing()
    """
    if isinstance(teacher, CachedTeacher):
        return unaltered(teacher.cached.teacher)
    return unaltered(teacher.altered.teacher) if isinstance(teacher, AlteredTeacher) else teacher


def _require_still(teacher: Section, path: tuple[str | int, ...]) -> None:
    if isinstance(teacher, EnsembleTeacher):
        for index, member in enumerate(teacher.ensemble.members):
            _require_still(member, (*path, "ensemble", "members", index))
    elif not isinstance(teacher, LiveTeacher | ServedTeacher | RankTeacher):
        why = "only a teacher that stands still can be written to disk once"
        raise invalid(kind_of(teacher), why, "Cache a model, or an ensemble of models.", path)


for _section in (
    EnsembleFields, EnsembleTeacher, AlteredFields, AlteredTeacher, CachedFields, CachedTeacher,
):  # fmt: skip
    _section.model_rebuild(force=True)
