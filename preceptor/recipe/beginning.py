"""A recipe's student begins inside its teacher: what was said becomes a plan and its inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from preceptor.errors import ModelError, RecipeError
from preceptor.models.dry import keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.recipe.starts import GuideFields, InsideStart
from preceptor.recipe.subject import Subject
from preceptor.students.architecture import described
from preceptor.students.networks import is_network
from preceptor.students.report import Report
from preceptor.students.start import PLANS, Plan, begin
from preceptor.students.weights import weights_of
from preceptor.types import Inputs


def plan_of(said: InsideStart, seed: int) -> Plan:
    """What is usual for the basis, changed where something was said; `seed` is of a random one."""
    usual = PLANS[said.key.removesuffix("_basis")]
    changed = replace(usual, ridge=said.fields.ridge, seed=seed)
    return replace(changed, **said.fields.said())


def teacher_in(place: str, said: InsideStart, subject: Subject) -> TappedModel | Path:
    """A teacher from a folder: live where its activations are read, else as weights on disk, read
    a tensor at a time."""
    folder = Path(place).expanduser()
    if plan_of(said, 0).reads_activations or not subject.streams:
        return subject.saved(folder)
    return folder


def begun(
    said: InsideStart,
    student: TappedModel,
    teacher: TappedModel | Path,
    subject: Subject,
    seed: int,
    *,
    measured: bool = True,
) -> Report:
    """Write a student's weights from its teacher's, in place; a function of both and the seed.

    Args:
        said: how it begins.
        student: as it was drawn.
        teacher: live, or a folder of weights.
        subject: gives training examples for what reads activations, and the loss.
        seed: of a random basis.
        measured: whether held-out loss is taken before and after.

    Errors:
        ModelError: the architectures do not fit one another, or not the basis.
        RecipeError: something was said that this kind of student has no use for.
    """
    if is_network(student.module):
        _require_used(said)
    live = isinstance(teacher, TappedModel)
    if live:
        _require_same_pixels(student, teacher)
    weighted = isinstance(said.fields, GuideFields) and said.fields.frequencies
    seen = subject.calibration(said.fields.calibration) if live or weighted else []
    with keeping_modes(student), torch.random.fork_rng(devices=[]):
        return begin(
            student,
            teacher,
            plan_of(said, seed),
            calibration=seen if live else (),
            frequencies=_frequencies(teacher, seen) if weighted else None,
            loss=subject.loss if measured else None,
        )


def _frequencies(teacher: TappedModel | Path, seen: Sequence[Inputs]) -> Tensor | None:
    """How often each row of the teacher's embedding table is read; None where it has no table."""
    table = described(weights_of(teacher)).piece("embedding")
    if table is None:
        return None
    counts = torch.zeros(table.shape[0])
    for inputs in seen:
        assert isinstance(inputs, Mapping), "what has a table reads tokens"
        counts += torch.bincount(
            inputs["input_ids"][inputs["attention_mask"].bool()], minlength=len(counts)
        )
    return counts


def _require_used(said: InsideStart) -> None:
    for name in ("blocks", "depth"):
        if name in said.fields.said():
            raise RecipeError(
                f"student.start.{said.key}.{name}",
                "a convolutional student takes blocks evenly out of each stage",
                "Leave it out.",
            )


def _require_same_pixels(student: TappedModel, teacher: TappedModel) -> None:
    own, theirs = ((*model.mean, *model.std) for model in (student, teacher))
    if tuple(own) != tuple(theirs):
        raise ModelError(
            f"the student's pixels are normalised by {own}, its teacher's by {theirs}",
            "the teacher's first layer would see other numbers than it learned from",
            "Give both the same `mean` and `std`.",
        )
