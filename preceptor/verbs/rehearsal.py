"""A stage put together with an untrained teacher, so that what does not fit shows at once.

Names of layers and parameters, numbers of classes and the shapes of images can be wrong in ways
that only models and data at hand tell. A teacher may take hours to train; this takes a moment.
"""

from collections.abc import Sequence

from preceptor.models.tapped import TappedModel
from preceptor.recipe import build
from preceptor.recipe.schema import Stage
from preceptor.recipe.subject import Taught
from preceptor.recipe.teachers import BornAgainTeacher, CachedTeacher, LiveTeacher
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.train.training import Training
from preceptor.verbs.experiment import Experiment


def rehearse(experiment: Experiment) -> None:
    """Raise, before any training, where a stage's models, layers and data do not fit together."""
    for arm in experiment.recipe.ways():
        way = experiment.taught_as(arm)
        students = way.start(way.recipe.seed.first, rehearsal=True)
        for stage in way.recipe.stages:
            students = rehearsed(way, stage, students).students()


def rehearsed(experiment: Experiment, stage: Stage, students: Sequence[TappedModel]) -> Training:
    """A stage ready to run, whose teachers have not been trained."""
    seed = experiment.recipe.seed.first

    def untrained(said: LiveTeacher, name: str) -> Teacher:
        del name
        return Live(experiment.subject.model(said.model, seed))

    said = stage.teacher or experiment.recipe.teacher
    said = said.cached.teacher if isinstance(said, CachedTeacher) else said
    if isinstance(said, BornAgainTeacher):
        teacher: Teacher = Live(experiment.start(seed + 1, rehearsal=True)[0])
    else:
        teacher = build.teacher(said, experiment.subject, students, untrained)
    taught = Taught(students, teacher, rehearsal=True)
    source = experiment.subject.source(stage, stage.plan, seed, taught)
    return Training(students, teacher, stage.objective, source, stage.plan, seed=seed)
