"""The steps of a run's worked answers, put to the test: who answers as before without them?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from preceptor.evaluate.results import ArmResult, SeedResult
from preceptor.models.tapped import TappedModel
from preceptor.recipe.subject import Subject
from preceptor.recipe.text_subject import TextSubject
from preceptor.recipe.worked_answers import Worked, following, hanging
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.verbs.cells import Cell, student_folder

_ARMS = ("distilled", "control")


def tested(
    found: Sequence[ArmResult],
    arms: Mapping[str, Sequence[Cell]],
    teacher: ArmResult | None,
    fixed: Teacher | None,
    subject: Subject,
) -> tuple[list[ArmResult], ArmResult | None]:
    """The arms and the teacher, with what their answers owe to their steps.

    Student, control and teacher are asked; student and control also with the teacher's steps, and
    the teacher with theirs, where it is one live model.
    """
    assert isinstance(subject, TextSubject)
    master = None
    if teacher is not None and isinstance(fixed, Live):
        master = _worked(fixed.model.cpu(), teacher.seeds[0], subject, teacher=True)
        teacher = replace(teacher, seeds=(_asked(teacher.seeds[0], master, None, subject),))
    told = [
        replace(arm, seeds=_each(arm, arms[arm.name], master, subject))
        if arm.name in _ARMS
        else arm
        for arm in found
    ]
    return told, teacher


def _each(
    arm: ArmResult, cells: Sequence[Cell], master: Worked | None, subject: TextSubject
) -> tuple[SeedResult, ...]:
    seeds = []
    for one, cell in zip(arm.seeds, cells, strict=True):
        own = _worked(subject.saved(student_folder(cell)), one, subject, teacher=False)
        seeds.append(_asked(one, own, master, subject))
    return tuple(seeds)


def _worked(model: TappedModel, one: SeedResult, subject: TextSubject, *, teacher: bool) -> Worked:
    return Worked(model, subject.part("test", teacher), one.texts, one.finals)


def _asked(one: SeedResult, own: Worked, master: Worked | None, subject: TextSubject) -> SeedResult:
    assert subject.said.verify is not None
    items = {**one.items, **hanging(own, subject.said.verify)}
    if master is not None:
        items |= following(own, master, subject.said.verify)
    return replace(one, items=items)
