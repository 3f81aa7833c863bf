"""Two responses to each prompt in one batch: the teacher's, and the student's of the moment.

Jongwoo Ko, Tianyi Chen, Sungnyun Kim, Tianyu Ding, Luming Liang, Ilya Zharkov, Se-Young Yun.
"DistiLLM-2: A Contrastive Approach Boosts the Distillation of LLMs". ICML, 2025.
"""

from collections.abc import Sized
from typing import Any, final

import numpy as np

from preceptor.data.collate import Origin
from preceptor.data.text_source import TextSource
from preceptor.errors import DataError
from preceptor.synthesis.prompted import Prompted, composed, mine
from preceptor.synthesis.rollouts import ended_as_student
from preceptor.synthesis.writers import Writer
from preceptor.types import Batch

_STUDENT: Origin = "student"


@final
class Pairs(Prompted):
    """Each step: the teacher's responses to the step's prompts, then the student's.

    A batch has twice as many rows as the source's; the masks "teacher_written" and
    "student_written" say which positions are whose.

    Args:
        source: gives prompts.
        student: writes as the student does now.
        teacher: writes as the teacher does; None where the data's responses are the teacher's
            (it wrote the data set), which a cache can then serve.
        seed: of what is written.

    Raises:
        DataError: a prompt of the data has no response, and no teacher writes one.
    """

    def __init__(
        self, source: TextSource, student: Writer, teacher: Writer | None = None, *, seed: int = 0
    ) -> None:
        super().__init__(source, seed)
        self._student, self._teacher = student, teacher
        bare = (self.texts.scored == 0).nonzero()[0]
        if teacher is None and len(bare):
            raise DataError(
                f"{self.texts.row(int(bare[0])).place} is a prompt alone",
                "each prompt needs a response of the teacher",
                "Give a teacher that writes, or data that it has written.",
            )

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """This rank's pairs of the next step's batch: the teacher's rows, then the student's."""
        step = self.source.step
        self.source.take(rank, world)
        ids = self.source.drawn(step)
        own, places = mine(ids, rank, world), mine(np.arange(len(ids)), rank, world)
        ours = self._student(self.texts.prompts(own), self._seeds(step, places)).ids
        twice = np.concatenate([own, own])
        if self._teacher is None:
            data = self.texts.responses(own)
            return _as_teachers(composed(self.texts, twice, [*data, *ours], _by("data", own)))
        found = self._teacher(self.texts.teacher_prompts(own), self._seeds(step, places + len(ids)))
        theirs = ended_as_student(found, self.texts.rendering.end)
        return composed(self.texts, twice, [*theirs, *ours], _by("teacher", own))

    def _settings(self) -> object:
        return self._teacher is None


def _by(first: Origin, rows: Sized) -> list[Origin]:
    return [writer for writer in (first, _STUDENT) for _ in range(len(rows))]


def _as_teachers(batch: Batch) -> Batch:
    """The data's responses counted as the teacher's."""
    theirs = batch.mask("all") & ~batch.mask("student_written")
    fields: dict[str, Any] = batch.fields()
    return Batch(**{**fields, "masks": {**batch.masks, "teacher_written": theirs}})
