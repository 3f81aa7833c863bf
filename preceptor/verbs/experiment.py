"""What a recipe's run consists of: its teacher, its arms, its seeds, each a cell in its folder.

Arms of one seed share the labelled examples, the initial weights and the order of the labelled
draws. The control learns from the labels alone, over as many optimiser steps as all stages of the
student together, by the last stage's plan.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import final

from preceptor.data.source import Source
from preceptor.models.tapped import TappedModel
from preceptor.recipe import build
from preceptor.recipe.models import AnyModel
from preceptor.recipe.schema import STUDENT, Recipe, Stage
from preceptor.recipe.starts import InsideStart
from preceptor.recipe.subject import Subject, Taught
from preceptor.recipe.teachers import (
    AnyTeacher,
    BornAgainTeacher,
    CachedTeacher,
    LiveTeacher,
    NobodyTeacher,
    PeersTeacher,
    unaltered,
)
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.train.fit import Losses
from preceptor.train.plan import Plan
from preceptor.train.session import Keeping
from preceptor.verbs.cells import (
    Cell,
    Finished,
    Stretch,
    advanced,
    run_cell,
    steps_of,
    student_folder,
)
from preceptor.verbs.independent import NAME as INDEPENDENT
from preceptor.verbs.starts import Starts
from preceptor.verbs.teacher_cells import TEACHER_SEED, live_inside, teacher_seed

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
    original: "Experiment | None" = None

    @cached_property
    def subject(self) -> Subject:
        """The data and what is particular to its kind, loaded once for all ways to teach."""
        return build.subject(self.recipe) if self.original is None else self.original.subject

    @cached_property
    def fixed(self) -> Teacher | None:
        """The run's last teacher that is a model or several, trained or loaded.

        None where the student ends with its own past, its peers, or nobody as its teacher.
        """
        if self.original is not None:
            return self.original.fixed
        fixed: Teacher | None = None
        for name, said in self.said_teachers().items():
            whole = unaltered(said)
            if build.stands_still(whole):
                fixed = self.teacher(whole, (), name)
                self.subject.check_teacher(fixed)
            elif not isinstance(whole, NobodyTeacher):
                fixed = None
        return fixed

    def taught_as(self, arm: str) -> "Experiment":
        """The same experiment with the student taught as a variant says."""
        if arm == self.arm:
            return self
        own = self.recipe.variants[arm].teacher is not None
        way, first = self.recipe.way(arm), self.original or self
        return replace(self, recipe=way, arm=arm, own_teacher=own, original=first)

    @property
    def keeping(self) -> Keeping:
        """How often cells are saved."""
        return Keeping(self.recipe.checkpoint.every, self.recipe.checkpoint.keep)

    def run(self, cell: Cell) -> Finished:
        """Train a cell to its end, or find it finished."""
        return run_cell(
            cell,
            self.subject,
            self.keeping,
            lambda losses: self.watch(cell, losses),
            lambda: self.fixed,
        )

    def until(self, seed: int, stages: int) -> TappedModel:
        """The student as its first `stages` stages leave it; trains them where that is not done."""
        cell = self._taught(self.arm, seed, seed, None, None)
        watch = lambda losses: self.watch(cell, losses)  # noqa: E731
        return advanced(cell, stages, self.keeping, watch)[0]

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
            for name, live in live_inside(said, whole)
            if live.train is not None
        )

    def ways_teachers(self) -> tuple[Cell, ...]:
        """The teachers that are trained for any of the ways to teach."""
        ways = map(self.taught_as, self.recipe.ways())
        return tuple({cell.folder: cell for way in ways for cell in way.teachers()}.values())

    def every_teacher(self) -> tuple[Cell, ...]:
        """The teachers that are trained for any of the ways to teach, or to compare with."""
        cells = [*self.ways_teachers()]
        if self._said_independent is not None:
            each = live_inside(self._said_independent, INDEPENDENT)
            cells += [self.teacher_cell(one, name) for name, one in each if one.train is not None]
        return tuple({cell.folder: cell for cell in cells}.values())

    @cached_property
    def _said_independent(self) -> AnyTeacher | None:
        """As the last teacher is said; None where nobody asks, or each seed has its own."""
        if "independent" not in self.recipe.evaluate:
            return None
        said = self.recipe.independent or unaltered(list(self.said_teachers().values())[-1])
        return said if build.stands_still(said) else None

    @cached_property
    def independent(self) -> Teacher | None:
        """A teacher like the run's last one that the student never met; trained where it must be.

        None where nobody asks, or where the teachers of other seeds will do.
        """
        said = self._said_independent
        return None if said is None else self.teacher(said, (), INDEPENDENT)

    def teacher_cell(self, said: LiveTeacher, name: str) -> Cell:
        """A teacher's training, on every label of the training part."""
        plan = said.train
        assert plan is not None
        seed = teacher_seed(name)
        stretch = Stretch(
            self.subject.untaught("control", self.recipe.control.smoothing),
            plan,
            lambda *_: self.subject.teacher_source(said.model, plan, seed),
            _nobody,
        )
        return Cell(
            name,
            seed,
            self.folder / "teachers" / name,
            lambda: [self.subject.model(said.model, seed)],
            (stretch,),
            alone=True,
        )

    def trained(self, said: LiveTeacher, name: str) -> Teacher:
        """A live teacher with its weights; trains it where that was not done yet."""
        if said.train is not None:
            cell = self.teacher_cell(said, name)
            if not cell.done():
                self.run(cell)
            return Live(self.subject.saved(student_folder(cell)))
        if said.load is not None:
            return Live(self.subject.loaded(said.model, said.load))
        return Live(self.subject.model(said.model, TEACHER_SEED))

    def teacher(
        self,
        said: AnyTeacher,
        students: Sequence[TappedModel],
        name: str,
        *,
        written: bool = False,
    ) -> Teacher:
        """Whoever answers these students; `written` says that they write some of the text."""
        if isinstance(said, CachedTeacher):
            live = self.teacher(said.cached.teacher, students, name)
            read = self.subject.cached(Path(said.cached.folder), live, said.cached)
            return build.routed(read, live) if written else read
        return build.teacher(said, self.subject, students, self.trained, name)

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
                return Live(self.subject.saved(student_folder(parent)))
            written = stage.rollouts is not None
            return self.teacher(said, students, name, written=written)

        def source(students: Sequence[TappedModel], teacher: Teacher | None) -> Source:
            taught = None if teacher is None else Taught(students, teacher)
            return self.subject.source(stage, plan, seed, taught)

        def observe(source: Source, student: TappedModel, step: int) -> None:
            self.subject.observe(stage, source, student, step)

        watched = None if stage.rollouts is None else observe
        return Stretch(stage.objective, plan, source, teacher, watched)

    def plain(self, arm: str, seed: int, lr: float | None = None, member: int = 0) -> Cell:
        """An arm without a teacher: the control, label smoothing, the longer run, or the control
        from a random start."""
        objective = self.subject.untaught(arm, self.recipe.control.smoothing)
        steps = sum(
            steps_of(stage.plan, self.subject.source(stage, stage.plan, seed))
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
            lambda *_: self.subject.plain_source(plan, seed),
            _nobody,
        )
        name = arm if member == 0 else f"{arm}-{member}"

        def student() -> TappedModel:
            if arm == "scratch":
                return self.subject.model(self.recipe.student.model, seed)
            return self.start(seed)[member]

        return Cell(
            name,
            seed,
            self._folder(name, seed, lr),
            lambda: [student()],
            (stretch,),
        )

    @cached_property
    def starts(self) -> Starts:
        """Where a student begins that begins inside its teacher: the same for all ways to teach."""
        if self.original is not None:
            return self.original.starts
        said, name = build.begun_in(self.recipe), next(iter(self.said_teachers()))

        def train() -> None:
            if said is not None and said.train is not None:
                cell = self.teacher_cell(said, name)
                if not cell.done():
                    self.run(cell)

        def teacher() -> TappedModel:
            assert said is not None
            found = self.trained(said, name)
            assert isinstance(found, Live)
            self.subject.check_teacher(found)
            return found.model

        def untrained() -> TappedModel | None:
            if said is None or said.train is None or self.teacher_cell(said, name).done():
                return None
            return self.subject.model(said.model, TEACHER_SEED)

        folder = self.folder / "starts"
        return Starts(self.recipe.student, self.subject, folder, train, teacher, untrained)

    def start(self, seed: int, *, rehearsal: bool = False) -> list[TappedModel]:
        """The cohort before its first step; members differ in their weights.

        In a rehearsal no teacher is trained for it.
        """
        if isinstance(self.recipe.student.start, InsideStart):
            first = self.starts.rehearsed(seed) if rehearsal else self.starts.at(seed)
        else:
            first = self.subject.student(self.recipe.student, seed)
        others = [
            self.subject.model(said, seed + 1000 * (index + 1))
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


def _with_rate(plan: Plan, lr: float | None) -> Plan:
    return plan if lr is None else replace(plan, optimizer=replace(plan.optimizer, lr=lr))


def _nobody(students: Sequence[TappedModel]) -> Teacher:
    del students
    return Nobody()
