"""A cell of a run: one arm at one seed, trained to its end, measured once, kept in a folder.

A cell that is finished is never trained again; one that was cut short goes on from its last
checkpoint. What a report needs of it lies in its folder: the student, its logits on the held-out
sets, its losses.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from preceptor.data.source import Source
from preceptor.files import write_atomically, write_text
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.recipe.subject import PARTS, Answers, Subject
from preceptor.teachers.base import Teacher
from preceptor.train.fit import Losses
from preceptor.train.plan import Plan
from preceptor.train.record import read
from preceptor.train.session import Keeping, train
from preceptor.train.training import Training, moves


@final
@dataclass(frozen=True)
class Stretch:
    """A stage with everything said: who teaches is made from the students as they then are.

    The source is made with both, since students may write what they learn from; without either
    where only its length is asked. `observe` sees source and student after each step.
    """

    objective: Objective[Any]
    plan: Plan
    source: Callable[[Sequence[TappedModel], Teacher | None], Source]
    teacher: Callable[[Sequence[TappedModel]], Teacher]
    observe: Callable[[Source, TappedModel, int], None] | None = None


@final
@dataclass(frozen=True)
class Cell:
    """What is trained, from which seed, in which folder.

    `students` makes the cohort anew; a cell of several stages hands it from one to the next.
    `alone` says that it is a teacher, whose answers are asked when it teaches.
    """

    arm: str
    seed: int
    folder: Path
    students: Callable[[], list[TappedModel]]
    stretches: tuple[Stretch, ...]
    alone: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(steps_of(each.plan, each.source((), None)) for each in self.stretches)

    def done(self) -> bool:
        """Whether an earlier process finished it."""
        return (self.folder / "done.json").exists()


@final
@dataclass(frozen=True)
class Finished:
    """What a finished cell left: one entry a member of the cohort in `answers`.

    `answers[member][part]` is what it answered to the parts "validation" and "test", and likewise
    `teacher_answers[part]` where the cell's own teacher is a model of the student's past.
    """

    answers: tuple[dict[str, Answers], ...]
    teacher_answers: dict[str, Answers]
    curve: list[dict[str, Any]]
    steps: int
    seconds: float
    notices: tuple[str, ...] = field(default=())


def steps_of(plan: Plan, source: Source) -> int:
    """A plan's optimiser steps on a source."""
    return plan.steps or plan.epochs * source.steps_per_epoch


def run_cell(
    cell: Cell,
    subject: Subject,
    keeping: Keeping,
    watch: Callable[[Losses], None],
    beside: Callable[[], Teacher | None],
) -> Finished:
    """Train a cell from wherever it was left, and give what it came to.

    `beside` gives the run's teacher, where the student is compared with one.
    """
    if not cell.done():
        students, training, notices, seconds = _trained(cell, keeping, watch)
        if training.accelerator.is_main_process:
            _keep(cell, students, training, subject, beside)
            done = {"seconds": seconds, "notices": notices, "steps": cell.steps}
            write_text(cell.folder / "done.json", json.dumps(done))
        training.accelerator.wait_for_everyone()
    return finished(cell)


def advanced(
    cell: Cell, stages: int, keeping: Keeping, watch: Callable[[Losses], None]
) -> list[TappedModel]:
    """The cohort as a cell's first `stages` stages leave it; the cell itself goes on from there."""
    return _trained(replace(cell, stretches=cell.stretches[:stages]), keeping, watch)[0]


def finished(cell: Cell) -> Finished:
    """What lies in a finished cell's folder."""
    done = json.loads((cell.folder / "done.json").read_text())
    tensors = load_file(cell.folder / "predictions.safetensors")
    members = sorted({int(name.split(".")[0]) for name in tensors if name[0].isdigit()})
    answers = tuple(_of(tensors, str(member)) for member in members)
    own = _of(tensors, "teacher")
    curve = [
        entry
        for stage in range(len(cell.stretches))
        for entry in read(cell.folder / f"stage-{stage}" / "metrics.jsonl")
    ]
    return Finished(answers, own, curve, done["steps"], done["seconds"], tuple(done["notices"]))


def student_folder(cell: Cell, member: int = 0) -> Path:
    """Where a finished cell's student lies; members of a cohort are numbered from 0."""
    return cell.folder / ("student" if member == 0 else f"student-{member}")


def _trained(
    cell: Cell, keeping: Keeping, watch: Callable[[Losses], None]
) -> tuple[list[TappedModel], Training, list[str], float]:
    students, seconds = cell.students(), 0.0
    notices: list[str] = []
    aux: Sequence[nn.ModuleList] = ()
    training: Training | None = None
    for index, stretch in enumerate(cell.stretches):
        torch.manual_seed(cell.seed)
        teacher = stretch.teacher(students)
        training = Training(
            students,
            teacher,
            stretch.objective,
            stretch.source(students, teacher),
            stretch.plan,
            seed=cell.seed,
            aux=aux,
        )
        seen = _watching(stretch, training, watch)
        notices += train(training, cell.folder / f"stage-{index}", keeping, seen)
        seconds += training.seconds
        students = training.students()
        kept = stretch.plan.keep_auxiliary
        aux = [trainee.member.aux for trainee in training.trainees] if kept else ()
    assert training is not None, "a cell has at least one stage"
    return students, training, notices, seconds


def _watching(
    stretch: Stretch, training: Training, watch: Callable[[Losses], None]
) -> Callable[[Losses], None]:
    if (observe := stretch.observe) is None:
        return watch

    def seen(losses: Losses) -> None:
        watch(losses)
        observe(training.source, training.trainees[0].member.student, losses.step)

    return seen


def _keep(
    cell: Cell,
    students: Sequence[TappedModel],
    training: Training,
    subject: Subject,
    beside: Callable[[], Teacher | None],
) -> None:
    """Save the students and everything that will be asked of them, then drop what is not needed."""
    device = training.accelerator.device
    tensors: dict[str, Tensor] = {}
    asked = {str(k): student for k, student in enumerate(students) if not cell.alone}
    for member, student in enumerate(students):
        subject.save(student, student_folder(cell, member))
    if moves(training.teacher):
        own = getattr(training.teacher, "model", None)
        asked |= {"teacher": own} if isinstance(own, TappedModel) else {}
    for who, model in asked.items():
        for part in PARTS:
            found = subject.answers(model, part, device, beside)
            tensors |= {f"{who}.{part}.{n}".removesuffix("."): t for n, t in found.items()}
    write_atomically(cell.folder / "predictions.safetensors", lambda path: save_file(tensors, path))


def _of(tensors: Mapping[str, Tensor], who: str) -> dict[str, Answers]:
    """One model's answers by part: tensors are named WHO.PART, or WHO.PART.NAME."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        whose, part, *name = key.split(".", 2)
        if whose == who:
            found.setdefault(part, {})[name[0] if name else ""] = tensor
    return dict(found)


def forget(folder: Path) -> None:
    """Remove a run's folder, for a fresh start."""
    shutil.rmtree(folder, ignore_errors=True)
