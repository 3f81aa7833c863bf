"""One cell of a study: trained in memory where it is short, asked once, kept in one small file.

A cell of no more steps than `checkpoint.every` would be saved at its end alone, so it is trained
without a folder of its own; a longer one, and every teacher, is trained as in any run, and goes on
where it was.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from preceptor.errors import NonFiniteError, PreceptorError
from preceptor.evaluate.study.cells import Answered
from preceptor.files import write_text
from preceptor.models.tapped import TappedModel
from preceptor.recipe.rollouts import SequenceRollouts
from preceptor.recipe.schema import Recipe, Stage
from preceptor.recipe.study_answers import answered
from preceptor.recipe.study_cells import StudyCell
from preceptor.recipe.teachers import (
    AlteredTeacher,
    AnyTeacher,
    EnsembleTeacher,
    LiveTeacher,
)
from preceptor.teachers.base import Teacher
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.live import Live
from preceptor.train.fit import run
from preceptor.train.training import Training
from preceptor.verbs.cells import Cell
from preceptor.verbs.experiment import Experiment


def cell_file(folder: Path, name: str) -> Path:
    """Where a cell's outcome is kept."""
    return folder / "cells" / f"{name}.json"


def run_study_cell(cell: StudyCell, folder: Path) -> Answered:
    """Train a cell and write its outcome, whatever it is; a cell that is there is not run again.

    Numbers that are not finite are an outcome ("collapsed"), any other error is a failure, which is
    tried again when the study is started again.
    """
    file = cell_file(folder, cell.name)
    if (known := read_cell(file)) is not None and known.state != "failed":
        return known
    started = time.process_time()
    try:
        found = _teacher(cell, folder) if cell.role == "teacher" else _student(cell, folder)
    except NonFiniteError as error:
        # The examples that follow are the whole batch: nothing about them is broken.
        found = _without_answers("collapsed", error.seen.partition(", examples")[0])
    except PreceptorError as error:
        found = _without_answers("failed", str(error))
    except Exception as error:  # Whatever breaks in one cell must not end the others.
        found = _without_answers("failed", f"{type(error).__name__}: {error}")
    found = replace(found, seconds=time.process_time() - started)
    write_text(file, found.to_json())
    return found


def read_cell(file: Path) -> Answered | None:
    """A cell's outcome; None where there is none."""
    try:
        return Answered.from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _without_answers(state: Any, why: str) -> Answered:
    return Answered(state, why, (), (), 0.0, 0, 0.0)


def _teacher(cell: StudyCell, folder: Path) -> Answered:
    """A teacher, or the members of an ensemble, trained from weights of this seed."""
    experiment = Experiment(cell.recipe, _teachers(folder, cell.name), _unseen)
    teacher = experiment.teacher(cell.recipe.teacher, (), _teacher_name(cell.seed))
    return answered(experiment.subject, teacher, _parameters(teacher))


def _student(cell: StudyCell, folder: Path) -> Answered:
    recipe = cell.recipe
    if cell.teacher is not None:
        where = _teachers(folder, cell.teacher) / "teachers"
        recipe = _with_loaded(recipe, where, _teacher_name(cell.seed))
    recipe = _writing_apart(recipe, folder / "written" / cell.name)
    experiment = Experiment(recipe, folder / "longer" / cell.name, _unseen)
    if cell.role == "control":
        made = experiment.plain("control", cell.seed)
    else:
        made = experiment.distilled(cell.seed)[-1]
    if made.steps <= recipe.checkpoint.every:
        student = _trained(made)
    else:
        experiment.run(made)
        student = experiment.subject.saved(made.folder / "student")
    return answered(experiment.subject, student, sum(p.numel() for p in student.parameters()))


def _trained(cell: Cell) -> TappedModel:
    """A cell's stages, one after the other, and nothing written."""
    students = cell.students()
    aux: list[nn.ModuleList] = []
    for stretch in cell.stretches:
        torch.manual_seed(cell.seed)
        teacher = stretch.teacher(students)
        source = stretch.source(students, teacher)
        training = Training(
            students, teacher, stretch.objective, source, stretch.plan, seed=cell.seed, aux=aux
        )
        for losses in run(training):
            if stretch.observe is not None:
                student = training.trainees[0].member.student
                stretch.observe(training.source, student, losses.step)
        students = training.students()
        kept = stretch.plan.keep_auxiliary
        aux = [trainee.member.aux for trainee in training.trainees] if kept else []
    return students[0]


def _with_loaded(recipe: Recipe, where: Path, name: str) -> Recipe:
    """The recipe with weights of its trained teachers in place of their plans."""
    return recipe.model_copy(update={"teacher": _loaded(recipe.teacher, where, name)})


def _writing_apart(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with what its teacher writes kept in the cell's own folder.

    The grid's teachers write different texts, and its cells are trained side by side.
    """
    stages: list[Stage] = []
    for index, stage in enumerate(recipe.stages):
        if isinstance(said := stage.rollouts, SequenceRollouts):
            fields = said.sequence_kd.model_copy(update={"folder": str(folder / str(index))})
            stage = stage.model_copy(update={"rollouts": SequenceRollouts(sequence_kd=fields)})
        stages.append(stage)
    return recipe.model_copy(update={"stages": tuple(stages)})


def _loaded(said: AnyTeacher, where: Path, name: str) -> AnyTeacher:
    if isinstance(said, LiveTeacher) and said.train is not None:
        return LiveTeacher(model=said.model, load=str(where / name / "student"))
    if isinstance(said, AlteredTeacher):
        inner = _loaded(said.altered.teacher, where, name)
        fields = said.altered.model_copy(update={"teacher": inner})
        return AlteredTeacher(altered=fields)
    if isinstance(said, EnsembleTeacher):
        members = tuple(
            _loaded(member, where, f"{name}-{index}")
            for index, member in enumerate(said.ensemble.members)
        )
        return EnsembleTeacher(ensemble=said.ensemble.model_copy(update={"members": members}))
    return said


def _teachers(folder: Path, name: str) -> Path:
    return folder / "teachers" / name


def _teacher_name(seed: int) -> str:
    """A teacher's weights begin by the numbers in its name."""
    return f"teacher-{seed}"


def _parameters(teacher: Teacher) -> int:
    if isinstance(teacher, Ensemble):
        return sum(map(_parameters, teacher.members))
    assert isinstance(teacher, Live), "a study's teachers are models, or several"
    return sum(p.numel() for p in teacher.model.parameters())


def _unseen(*_: Any) -> None:
    """Nobody watches the steps of a small cell."""
