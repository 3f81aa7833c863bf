"""Students that begin inside their teacher: each seed's is made once, and lies in the run's folder.

Every arm of a seed begins with the same weights, the control too, and so does a run that goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from preceptor.files import write_text
from preceptor.models.tapped import TappedModel
from preceptor.recipe.beginning import begun, teacher_in
from preceptor.recipe.schema import Student
from preceptor.recipe.starts import InsideStart
from preceptor.recipe.subject import Subject
from preceptor.train.processes import main_process_first

_TOLD = "start.txt"


@final
@dataclass(frozen=True)
class Starts:
    """Where the students of a run begin.

    Args:
        student: whose start is inside a teacher.
        subject: the data.
        folder: `seed-K/` in it holds a student as its ecosystem loads it, and `start.txt` what
            was done.
        train: trains the run's own teacher, all processes together, where that is not done yet.
        teacher: the run's own, with its weights.
        untrained: stands for it where it is yet to be trained; None where it is ready.
    """

    student: Student
    subject: Subject
    folder: Path
    train: Callable[[], None]
    teacher: Callable[[], TappedModel]
    untrained: Callable[[], TappedModel | None]

    @property
    def said(self) -> InsideStart:
        """How the student begins."""
        assert isinstance(self.student.start, InsideStart)
        return self.student.start

    def place(self, seed: int) -> Path:
        """A seed's folder."""
        return self.folder / f"seed-{seed}"

    def report(self, seed: int) -> str:
        """What was done at a seed's start, for a reader; done now where it was not yet."""
        self._make(seed)
        return (self.place(seed) / _TOLD).read_text()

    def at(self, seed: int) -> TappedModel:
        """A seed's student; made where it was not yet."""
        self._make(seed)
        model = self._drawn(seed)
        model.module.load_state_dict(self.subject.saved(self.place(seed)).module.state_dict())
        return model

    def rehearsed(self, seed: int) -> TappedModel:
        """A student that shows whether the start can be made, before any teacher is trained.

        Errors:
            ModelError: student and teacher do not fit one another.
        """
        stand_in = None
        if self.said.fields.teacher is None:
            self.subject.require_same_ids(None)
            stand_in = self.untrained()
        if stand_in is None:
            return self.at(seed)
        model = self._drawn(seed)
        begun(self.said, model, stand_in, self.subject, seed, measured=False)
        return model

    def _drawn(self, seed: int) -> TappedModel:
        return self.subject.model(self.student.model, seed)

    def _make(self, seed: int) -> None:
        told = self.place(seed) / _TOLD
        if self.said.fields.teacher is None and not told.exists():
            self.train()
        with main_process_first() as main:
            if main and not told.exists():
                self._write(seed)

    def _write(self, seed: int) -> None:
        """The student first: where the report is, everything is."""
        place = self.said.fields.teacher
        folder = None if place is None else Path(place).expanduser()
        unknown = self.subject.require_same_ids(folder)
        teacher = self.teacher() if place is None else teacher_in(place, self.said, self.subject)
        model = self._drawn(seed)
        report = begun(self.said, model, teacher, self.subject, seed)
        report = replace(report, warnings=(*filter(None, (unknown,)), *report.warnings))
        self.subject.save(model, self.place(seed))
        write_text(self.place(seed) / _TOLD, report.text() + "\n")
