"""The layers of a run's students beside its teacher's: each model sees some examples once more."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from preceptor.errors import ModelError
from preceptor.evaluate.likeness import likeness
from preceptor.evaluate.results import ArmResult
from preceptor.models.tapped import TappedModel
from preceptor.recipe.subject import Subject
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.types import Inputs
from preceptor.verbs.cells import Cell, student_folder

_EXAMPLES = 256
"""Training examples by which features are compared; unbiased, however few they are."""

_ARMS = ("distilled", "control")


def beside_teacher(
    found: Sequence[ArmResult],
    arms: Mapping[str, Sequence[Cell]],
    teacher: Teacher | None,
    subject: Subject,
) -> list[ArmResult]:
    """The arms, student and control with their layers beside the teacher's.

    As they are where the teacher is no single live model, or one of the two shows no layers.
    """
    if not isinstance(teacher, Live):
        return list(found)
    batches = subject.calibration(_EXAMPLES)
    return [
        _with_layers(arm, arms[arm.name], teacher.model, subject, batches)
        if arm.name in _ARMS
        else arm
        for arm in found
    ]


def _with_layers(
    arm: ArmResult,
    cells: Sequence[Cell],
    teacher: TappedModel,
    subject: Subject,
    batches: Sequence[Inputs],
) -> ArmResult:
    seeds = []
    for one, cell in zip(arm.seeds, cells, strict=True):
        student = subject.saved(student_folder(cell))
        try:
            seeds.append(replace(one, layers=likeness(student, teacher.cpu(), batches)))
        except ModelError:  # A module of an unknown make, which shows nothing that can be named.
            return arm
    return replace(arm, seeds=tuple(seeds))
