"""A recipe becomes objects: the one file that knows everybody.

Below here there is no dict of options and no lookup by name.
"""

from collections.abc import Callable, Sequence

from preceptor.data.client import Client
from preceptor.models.tapped import TappedModel
from preceptor.recipe.data import SentenceData, TextData
from preceptor.recipe.image_subject import ImageSubject
from preceptor.recipe.language_teachers import BaseTeacher, ServedTeacher
from preceptor.recipe.models import AnyModel, EncoderModel
from preceptor.recipe.schema import Recipe
from preceptor.recipe.sentence_subject import SentenceSubject
from preceptor.recipe.subject import Subject
from preceptor.recipe.teachers import (
    AlteredTeacher,
    AnyTeacher,
    BornAgainTeacher,
    CachedTeacher,
    EmaTeacher,
    EnsembleTeacher,
    LiveTeacher,
    NobodyTeacher,
    PastPredictionsTeacher,
    PeersTeacher,
    SnapshotsTeacher,
)
from preceptor.recipe.text_subject import TextSubject
from preceptor.teachers.adapter_base import AdapterBase
from preceptor.teachers.altered import Altered
from preceptor.teachers.base import Teacher
from preceptor.teachers.ema import EMA
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.nobody import Nobody
from preceptor.teachers.past_predictions import PastPredictions
from preceptor.teachers.peers import Peers
from preceptor.teachers.routed import Routed
from preceptor.teachers.served import Served
from preceptor.teachers.snapshots import Snapshots
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.types import Kind, Needs


def subject(recipe: Recipe) -> Subject:
    """What a recipe's data are about, loaded."""
    said = recipe.data
    if isinstance(said, TextData):
        readers = {
            part.name: part.needs()
            for way in recipe.ways().values()
            for stage in way.stages
            for part in stage.objective.parts()
        }
        return TextSubject(said, recipe.student.model, _models(recipe), readers)
    if isinstance(said, SentenceData):
        return SentenceSubject(said, recipe, _models(recipe))
    return ImageSubject(said)


def _models(recipe: Recipe) -> list[AnyModel]:
    """The models of all live teachers that a recipe names, wherever they stand in it."""
    said = [
        teacher
        for way in recipe.ways().values()
        for teacher in (way.teacher, *(stage.teacher for stage in way.stages))
        if teacher is not None
    ]
    return [live.model for teacher in said for live in _live(teacher)]


def _live(said: AnyTeacher) -> list[LiveTeacher]:
    if isinstance(said, LiveTeacher):
        return [said]
    if isinstance(said, CachedTeacher):
        return _live(said.cached.teacher)
    if isinstance(said, AlteredTeacher):
        return _live(said.altered.teacher)
    if isinstance(said, EnsembleTeacher):
        return [live for member in said.ensemble.members for live in _live(member)]
    return []


def begun_in(recipe: Recipe) -> LiveTeacher | None:
    """The teacher whose weights a student may begin with: the run's first, where it is a model."""
    said = recipe.stages[0].teacher or recipe.teacher
    said = said.cached.teacher if isinstance(said, CachedTeacher) else said
    return said if isinstance(said, LiveTeacher) else None


Trained = Callable[[LiveTeacher, str], Teacher]
"""Gives a live teacher with its weights: trained in the run's folder, or loaded."""


def teacher(
    said: AnyTeacher,
    subject: Subject,
    students: Sequence[TappedModel],
    trained: Trained,
    name: str = "teacher",
) -> Teacher:
    """Whoever answers the students, as they are now."""
    if isinstance(said, LiveTeacher):
        return trained(said, name)
    if isinstance(said, AlteredTeacher):
        whose = teacher(said.altered.teacher, subject, students, trained, name)
        return Altered(whose, said.altered.alteration(), said.altered.seed)
    if isinstance(said, EnsembleTeacher):
        fields = said.ensemble
        members = [
            teacher(member, subject, students, trained, f"{name}-{index}")
            for index, member in enumerate(fields.members)
        ]
        return Ensemble(members, fields.combine, fields.weights)
    if isinstance(said, EmaTeacher):
        return EMA(students[0], said.ema.decay)
    if isinstance(said, SnapshotsTeacher):
        return Snapshots(students[0], said.snapshots.at, said.snapshots.last)
    if isinstance(said, PastPredictionsTeacher):
        momentum = said.past_predictions.momentum
        return PastPredictions(subject.num_examples, subject.num_classes, momentum)
    if isinstance(said, PeersTeacher):
        return Peers()
    if isinstance(said, ServedTeacher):
        fields = said.served
        client = Client(fields.endpoint())
        return Served(client, subject.num_classes, fields.top_k, fields.api)
    if isinstance(said, BaseTeacher):
        return AdapterBase(students[0])
    # A cache is opened, and generations are trained one by one, in the run's folder: `verbs`.
    assert isinstance(said, NobodyTeacher)
    return Nobody()


def routed(cache: Teacher, live: Teacher) -> Teacher:
    """A cache for the rows of the data, the live teacher for what is written meanwhile."""
    assert isinstance(cache, CachedTokens), "only text is written"
    return Routed(cache, live)


def stands_still(said: AnyTeacher) -> bool:
    """Whether a teacher is a model or several whose answers never change."""
    if isinstance(said, EnsembleTeacher):
        return all(stands_still(member) for member in said.ensemble.members)
    return isinstance(said, LiveTeacher)


def offers(said: AnyTeacher) -> Needs:
    """What a recipe's teacher will give, known before anything is loaded or trained."""
    any_temperature = Needs(kinds=frozenset({"probabilities"}))
    live = Needs(
        kinds=frozenset({"logits", "probabilities"}),
        teacher_taps=frozenset({"*"}),
        teacher_head=True,
    )
    if isinstance(said, LiveTeacher | EmaTeacher | BornAgainTeacher | BaseTeacher):
        return live
    if isinstance(said, AlteredTeacher):
        return Needs(kinds=frozenset({"logits", "probabilities"}))
    if isinstance(said, SnapshotsTeacher):
        return live if said.snapshots.last == 1 else any_temperature
    if isinstance(said, CachedTeacher):
        keep = said.cached.keep
        if any(isinstance(each.model, EncoderModel) for each in _live(said)):
            return Needs(teacher_taps=frozenset({"*"}))  # Which layer it is, is known later.
        return (
            Needs(kinds=frozenset({"logits", "probabilities"}))
            if keep is None
            else (keep.codec().offers())
        )
    if isinstance(said, ServedTeacher):
        return Needs(kinds=frozenset({"bins"}), temperatures=frozenset({1.0}))
    if isinstance(said, EnsembleTeacher):
        kinds: set[Kind] = {"probabilities"}
        if said.ensemble.combine == "logits":
            kinds.add("logits")
        each = [offers(member).temperatures for member in said.ensemble.members]
        bound = [temperatures for temperatures in each if temperatures]
        return Needs(
            kinds=frozenset(kinds),
            temperatures=frozenset.intersection(*bound) if bound else frozenset(),
        )
    if isinstance(said, PastPredictionsTeacher):
        if said.past_predictions.momentum:
            return Needs(kinds=frozenset({"probabilities"}), temperatures=frozenset({1.0}))
        return any_temperature
    return any_temperature if isinstance(said, PeersTeacher) else Needs()
