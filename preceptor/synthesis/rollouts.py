"""Responses that the student writes while it learns, mixed into the stream of data.

Rishabh Agarwal, Nino Vieillard, Yongchao Zhou, Piotr Stanczyk, Sabela Ramos, Matthieu Geist,
Olivier Bachem. "On-Policy Distillation of Language Models: Learning from Self-Generated
Mistakes". ICLR, 2024 (GKD).
"""

from typing import final

import numpy as np
from numpy.typing import NDArray

from preceptor.data.text_source import TextSource
from preceptor.errors import RecipeError
from preceptor.models.generate import Generated
from preceptor.synthesis.prompted import Prompted, Schedule, composed, mine, settled
from preceptor.synthesis.writers import Writer
from preceptor.types import Batch


@final
class Rollouts(Prompted):
    """Each step's responses are the student's with probability `share`, else the data's.

    A step's responses are all of one origin. They are written when the step's batch is taken, all
    micro-batches' at once and before anything is counted, so that terms are divided by what is
    really there. Those that reached `max_new` have no end token and none is scored; a response
    that ended at once is its end token, which is.

    Args:
        source: gives prompts, and the data's responses.
        student: writes as the student does now.
        share: lambda, from 0 to 1, or a schedule of it.
        teacher: writes as the teacher does.
        teacher_share: the probability that the teacher writes; with `share` at most 1.
        steps: of the stage; a schedule needs them.
        seed: of coins and of what is written.

    Raises:
        RecipeError: shares that are no probabilities, or a writer or number of steps is missing.
    """

    def __init__(
        self,
        source: TextSource,
        student: Writer,
        *,
        share: float | Schedule = 0.5,
        teacher: Writer | None = None,
        teacher_share: float | Schedule = 0.0,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(source, seed)
        shares = (share, teacher_share)
        if steps is None and not all(isinstance(each, int | float) for each in shares):
            raise RecipeError(
                "a share that moves with training, and no number of steps",
                "it is a function of how much of the stage is done",
                "Give `steps`.",
            )
        if teacher is None and teacher_share != 0.0:
            raise RecipeError(
                f"teacher_share={teacher_share} without a teacher that writes",
                "somebody has to write those responses",
                "Give `teacher`, or a share of 0.",
            )
        self._student, self._teacher = student, teacher
        self._shares, self._steps = shares, steps or 1
        self._cuts(0)

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """This rank's rows of the next step's batch; the student writes them now if it is to."""
        step = self.source.step
        data = self.source.take(rank, world)
        coin, (first, second) = self._coin(step), self._cuts(step)
        if coin >= second:
            return data
        ids = self.source.drawn(step)
        own, places = mine(ids, rank, world), mine(np.arange(len(ids)), rank, world)
        if coin < first:
            found = self._student(self.texts.prompts(own), self._seeds(step, places))
            return composed(self.texts, own, found.ids, "student", recorded(found))
        assert self._teacher is not None
        found = self._teacher(self.texts.teacher_prompts(own), self._seeds(step, places))
        return composed(self.texts, own, ended_as_student(found, self.end), "teacher")

    @property
    def end(self) -> int | None:
        """The token with which the student ends a response."""
        return self.texts.rendering.end

    def _cuts(self, step: int) -> tuple[float, float]:
        """Below the first the student writes, below the second the teacher."""
        student, teacher = (
            settled(share, step, self._steps, self.steps_per_epoch) for share in self._shares
        )
        if student + teacher > 1:
            raise RecipeError(
                f"share={student:g} and teacher_share={teacher:g} at step {step}",
                "a step has one writer, so the two probabilities come to at most 1",
                "Lower one of them.",
            )
        return student, student + teacher

    def _settings(self) -> object:
        return (self._shares, self._steps)


def recorded(found: Generated) -> dict[str, tuple[NDArray[np.float32], ...]]:
    """What was recorded of each token, under the names that batches use."""
    each = {"sampled_log_q": found.log_q, "sampled_log_p": found.log_p}
    return {name: rows for name, rows in each.items() if rows}


def ended_as_student(found: Generated, end: int | None) -> list[NDArray[np.int64]]:
    """A teacher's responses, ended by the student's own end token."""
    if end is None:
        return list(found.ids)
    return [
        np.append(ids[:-1], end) if ended else ids
        for ids, ended in zip(found.ids, found.ended, strict=True)
    ]
