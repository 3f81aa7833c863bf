"""What a recipe's run consists of: its teacher, its arms, its seeds, each a cell in its folder.

Arms of one seed share the labelled examples, the initial weights and the order of the labelled
draws. The control learns from the labels alone, over as many optimiser steps as all stages of the
student together, by the last stage's plan.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

from preceptor.data.image_source import ImageSource
from preceptor.data.images import ImageData
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.label_smoothing import LabelSmoothing
from preceptor.recipe import build
from preceptor.recipe.models import AnyModel
from preceptor.recipe.schema import STUDENT, Recipe, Stage
from preceptor.recipe.teachers import (
    AnyTeacher,
    BornAgainTeacher,
    CachedTeacher,
    EnsembleTeacher,
    LiveTeacher,
    PeersTeacher,
)
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.train.fit import Losses
from preceptor.train.plan import Plan
from preceptor.train.session import Keeping
from preceptor.verbs.cells import Cell, Finished, Stretch, run_cell, steps_of, student_folder
from preceptor.verbs.stores import cached

TEACHER_SEED = 0
"""A run has one teacher, the same for every seed."""

Watch = Callable[[Cell, Losses], None]


@final
@dataclass(frozen=True)
class Experiment:
    """A recipe with its data and the folder where its cells lie; a variant is one of its own."""

    recipe: Recipe
    folder: Path
    watch: Watch
    arm: str = STUDENT
    own_teacher: bool = False

    @cached_property
    def data(self) -> ImageData:
        """The images, loaded once."""
        return build.image_data(self.recipe.data)

    def taught_as(self, arm: str) -> "Experiment":
        """The same experiment with the student taught as a variant says."""
        if arm == self.arm:
            return self
        own = self.recipe.variants[arm].teacher is not None
        other = replace(self, recipe=self.recipe.way(arm), arm=arm, own_teacher=own)
        vars(other)["data"] = self.data  # Loaded once for all of them.
        return other

    @property
    def keeping(self) -> Keeping:
        """How often cells are saved."""
        return Keeping(self.recipe.checkpoint.every, self.recipe.checkpoint.keep)

    def run(self, cell: Cell) -> Finished:
        """Train a cell to its end, or find it finished."""
        return run_cell(cell, self.data, self.keeping, lambda losses: self.watch(cell, losses))

    def students(self) -> tuple[AnyModel, ...]:
        """The models that learn: the student, and the others of a cohort."""
        own = self.recipe.student.model
        said = self.recipe.teacher
        return (own, *said.peers.others) if isinstance(said, PeersTeacher) else (own,)

    def said_teachers(self) -> dict[str, AnyTeacher]:
        """Who teaches, stage by stage, under the name of the folder where it is trained."""
        return {
            self._teacher_name(stage, index): stage.teacher or self.recipe.teacher
            for index, stage in enumerate(self.recipe.stages)
        }

    def teachers(self) -> tuple[Cell, ...]:
        """The teachers that this run trains itself."""
        return tuple(
            self.teacher_cell(live, name)
            for whole, said in self.said_teachers().items()
            for name, live in _live(said, whole)
            if live.train is not None
        )

    def every_teacher(self) -> tuple[Cell, ...]:
        """The teachers that are trained for any of the ways to teach."""
        ways = map(self.taught_as, self.recipe.ways())
        return tuple({cell.folder: cell for way in ways for cell in way.teachers()}.values())

    def teacher_cell(self, said: LiveTeacher, name: str) -> Cell:
        """A teacher's training, on every label of the training part."""
        plan = said.train
        assert plan is not None
        seed = _teacher_seed(name)
        stretch = Stretch(
            CE(),
            plan,
            lambda: build.source(self.recipe.data, self.data, plan, seed, every_label=True),
            _nobody,
        )
        return Cell(
            name,
            seed,
            self.folder / "teachers" / name,
            lambda: [build.model(said.model, self.data, seed)],
            (stretch,),
        )

    def trained(self, said: LiveTeacher, name: str) -> Teacher:
        """A live teacher with its weights; trains it where that was not done yet."""
        if said.train is not None:
            cell = self.teacher_cell(said, name)
            if not cell.done():
                self.run(cell)
            return Live(load_model({"folder": str(student_folder(cell))}))
        if said.load is not None:
            return Live(build.loaded(said.model, said.load, self.data))
        return Live(build.model(said.model, self.data, TEACHER_SEED))

    def teacher(self, said: AnyTeacher, students: Sequence[TappedModel], name: str) -> Teacher:
        """Whoever answers these students."""
        if isinstance(said, CachedTeacher):
            live = self.teacher(said.cached.teacher, students, name)
            return cached(Path(said.cached.folder), live, self.data, self.recipe.data.augment)
        return build.teacher(said, self.data, students, self.trained, name)

    def distilled(self, seed: int, lr: float | None = None) -> tuple[Cell, ...]:
        """The student's own training; the last cell is the arm that the report is about."""
        if isinstance(self.recipe.teacher, BornAgainTeacher):
            return self._generations(seed, self.recipe.teacher, lr)
        return (self._taught(self.arm, seed, seed, lr, None),)

    def _generations(self, seed: int, said: BornAgainTeacher, lr: float | None) -> tuple[Cell, ...]:
        """Each generation starts anew, from other weights than the one that teaches it."""
        prefix = "" if self.arm == STUDENT else f"{self.arm}-"
        first = f"{prefix}generation-0"
        cells = [replace(self.plain("control", seed, lr), arm=first)]
        cells[0] = replace(cells[0], folder=self._folder(first, seed, lr))
        count = said.born_again.generations
        for generation in range(1, count + 1):
            arm = self.arm if generation == count else f"{prefix}generation-{generation}"
            parent, start = cells[-1], seed + 1000 * generation
            cells.append(self._taught(arm, seed, start, lr, parent))
        return tuple(cells)

    def _taught(
        self, arm: str, seed: int, start: int, lr: float | None, parent: Cell | None
    ) -> Cell:
        return Cell(
            arm,
            seed,
            self._folder(arm, seed, lr),
            lambda: self.start(start),
            tuple(
                self._stretch(stage, index, seed, lr, parent)
                for index, stage in enumerate(self.recipe.stages)
            ),
        )

    def _stretch(
        self, stage: Stage, index: int, seed: int, lr: float | None, parent: Cell | None
    ) -> Stretch:
        plan = _with_rate(stage.plan, lr)
        name, said = self._teacher_name(stage, index), stage.teacher or self.recipe.teacher

        def teacher(students: Sequence[TappedModel]) -> Teacher:
            if parent is not None and stage.teacher is None:
                if not parent.done():
                    self.run(parent)
                return Live(load_model({"folder": str(student_folder(parent))}))
            return self.teacher(said, students, name)

        return Stretch(stage.objective, plan, lambda: self.source(stage, plan, seed), teacher)

    def source(self, stage: Stage, plan: Plan, seed: int) -> ImageSource:
        """A stage's batches; a stage may have data of its own."""
        if stage.data is None:
            return build.source(self.recipe.data, self.data, plan, seed)
        return build.source(stage.data, build.image_data(stage.data), plan, seed)

    def plain(self, arm: str, seed: int, lr: float | None = None, member: int = 0) -> Cell:
        """An arm without a teacher: the control, label smoothing, or the longer run."""
        objective: Objective[Any] = CE()
        if arm == "smoothing":
            objective = LabelSmoothing(amount=self.recipe.control.smoothing)
        steps = sum(
            steps_of(stage.plan, self.source(stage, stage.plan, seed))
            for stage in self.recipe.stages
        )
        if arm == "longer":
            steps = round(steps * self.recipe.control.longer)
        last = self.recipe.stages[-1]
        plan = replace(
            _with_rate(last.plan, lr), steps=steps, epochs=0, trainable=("*",), unlabelled_batch=0
        )
        stretch = Stretch(
            objective,
            plan,
            lambda: build.source(self.recipe.data, self.data, plan, seed).labelled_only(),
            _nobody,
        )
        name = arm if member == 0 else f"{arm}-{member}"
        return Cell(
            name,
            seed,
            self._folder(name, seed, lr),
            lambda: [self.start(seed)[member]],
            (stretch,),
        )

    def start(self, seed: int) -> list[TappedModel]:
        """The cohort before its first step; members differ in their weights."""
        first = build.student(self.recipe.student, self.data, seed)
        others = [
            build.model(said, self.data, seed + 1000 * (index + 1))
            for index, said in enumerate(self.students()[1:])
        ]
        return [first, *others]

    def _teacher_name(self, stage: Stage, index: int) -> str:
        whose = "teacher" if self.arm == STUDENT else f"teacher-{self.arm}"
        if stage.teacher:
            return f"{whose}-stage-{index + 1}"
        return whose if self.own_teacher else "teacher"

    def _folder(self, arm: str, seed: int, lr: float | None) -> Path:
        if lr is not None:
            return self.folder / "tuning" / f"{arm}-lr-{lr!r}" / f"seed-{seed}"
        return self.folder / "arms" / arm / f"seed-{seed}"


def tuned(experiment: Experiment, arm: str) -> float | None:
    """The learning rate with the best validation accuracy at the first seed, for one arm.

    Every arm tries the same rates once; None where the recipe tunes nothing.
    """
    tune = experiment.recipe.tune
    if tune is None:
        return None
    seed = experiment.recipe.seed.first
    accuracies: dict[float, float] = {}
    for lr in tune.lr:
        cell = (
            experiment.plain(arm, seed, lr)
            if arm in experiment.recipe.control.arms
            else experiment.taught_as(arm).distilled(seed, lr)[-1]
        )
        logits = experiment.run(cell).logits[0]["validation"]
        right = logits.argmax(dim=-1) == experiment.data.validation.labels
        accuracies[lr] = float(right.double().mean())
    return max(accuracies, key=lambda lr: accuracies[lr])


def _with_rate(plan: Plan, lr: float | None) -> Plan:
    return plan if lr is None else replace(plan, optimizer=replace(plan.optimizer, lr=lr))


def _teacher_seed(name: str) -> int:
    """Members of an ensemble begin at different weights, by the numbers in their names."""
    seed = TEACHER_SEED
    for part in name.split("-"):
        seed = 64 * seed + int(part) + 1 if part.isdigit() else seed
    return seed


def _live(said: AnyTeacher, name: str) -> list[tuple[str, LiveTeacher]]:
    """The live teachers inside a teacher, under the names that `build.teacher` gives them."""
    if isinstance(said, LiveTeacher):
        return [(name, said)]
    if isinstance(said, CachedTeacher):
        return _live(said.cached.teacher, name)
    if isinstance(said, EnsembleTeacher):
        members = enumerate(said.ensemble.members)
        return [pair for index, member in members for pair in _live(member, f"{name}-{index}")]
    return []


def _nobody(students: Sequence[TappedModel]) -> Teacher:
    del students
    return Nobody()
