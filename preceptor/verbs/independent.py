"""Another teacher, as good as the run's and with nothing of it: how much agreement is it worth?

Two models that are merely both good agree. What a student shares with its own teacher beyond what
it shares with another one, trained the same way from another seed, it has from that teacher:
Stanton et al., "Does Knowledge Distillation Really Work?", NeurIPS 2021, arXiv:2106.05945.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from preceptor.evaluate.results import ArmResult, SeedResult
from preceptor.recipe.subject import Subject
from preceptor.teachers.base import Teacher
from preceptor.verbs.cells import Cell, student_folder

NAME = "independent"
"""The folder where it is trained, and the arm under which it is reported."""

BESIDE = "rival_"
"""What stands before measures of likeness to it."""


def of_other_seeds(teacher: ArmResult) -> ArmResult | None:
    """Where each seed has a teacher of its own: that of the next seed; None where there is one."""
    if len(teacher.seeds) < 2:
        return None
    others = (*teacher.seeds[1:], teacher.seeds[0])
    seeds = (replace(b, seed=a.seed) for a, b in zip(teacher.seeds, others, strict=True))
    return ArmResult(NAME, tuple(seeds), teacher.cost, versus="")


def beside(
    found: Sequence[ArmResult],
    arms: Mapping[str, Sequence[Cell]],
    other: Teacher,
    subject: Subject,
) -> list[ArmResult]:
    """The arms with what is told of their likeness to it while they answer, asked once more.

    Most of it is seen in their answers; peers of a cohort are left as they are.
    """
    return [
        replace(arm, seeds=_asked(arm, arms[arm.name], other, subject)) if arm.name in arms else arm
        for arm in found
    ]


def _asked(
    arm: ArmResult, cells: Sequence[Cell], other: Teacher, subject: Subject
) -> tuple[SeedResult, ...]:
    seeds = []
    for one, cell in zip(arm.seeds, cells, strict=True):
        alike = subject.alike(subject.saved(student_folder(cell)), other)
        told = {f"{BESIDE}{name}": column for name, column in alike.items()}
        seeds.append(replace(one, items={**one.items, **told}))
    return tuple(seeds)
