"""Batches for a student and a teacher of two tokenisers: each row as both of them read it."""

from dataclasses import replace
from typing import Any, final

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.alignment import Coverage
from preceptor.data.collate import WRITERS, Origin
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.data.two_tokenisers import TwoTokenisers
from preceptor.errors import DataError
from preceptor.types import Batch

_TOGETHER = 16


@final
class JoinedSource(Source):
    """The batches of a student's source, joined with the same rows as the teacher reads them.

    A response that somebody wrote (a rollout) is translated: the teacher reads the written bytes
    in its own tokens, behind its own prompt.

    Args:
        student: draws the rows; its order and its state are this source's.
        teacher: the same rows in the teacher's tokenisation, example by example.
        joining: finds where both stand.

    Raises:
        DataError: a row became more windows on one side than on the other.
    """

    def __init__(self, student: Source, teacher: TextSet, joining: TwoTokenisers) -> None:
        if student.num_examples != len(teacher):
            raise DataError(
                f"the training rows are {student.num_examples} examples to the student and "
                f"{len(teacher)} to the teacher",
                "a document that does not fit the context is cut in other places by each",
                "Give rows that fit the context of both, as prompts with completions.",
            )
        self.inner, self._teacher, self.joining = student, teacher, joining
        self.num_classes, self.num_examples = student.num_classes, student.num_examples

    @property
    def labels(self) -> Int[Tensor, " b"]:
        """None: a text has no class."""
        return self.inner.labels

    @property
    def steps_per_epoch(self) -> int:
        """The student's."""
        return self.inner.steps_per_epoch

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """This rank's rows of the next step's batch."""
        return self._joined(self.inner.take(rank, world))

    def sample(self, count: int = 2) -> Batch:
        """A few examples; the stream stays in place, and the coverage does not count them."""
        held = self.joining.coverage
        batch = self._joined(self.inner.sample(count))
        self.joining.coverage = held
        return batch

    def state(self) -> dict[str, Any]:
        """The student's source's."""
        return self.inner.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.inner.load_state(state)

    def _joined(self, batch: Batch) -> Batch:
        writers: list[Origin] = [_writer(batch, row) for row in range(len(batch))]
        responses = [
            [] if writer == "data" else self.joining.translated(batch, row)
            for row, writer in enumerate(writers)
        ]
        return self.joining.join(batch, self._teacher.compose(batch.ids, responses, writers))


def coverage_of(
    student: TextSet, teacher: TextSet, joining: TwoTokenisers, rows: NDArray[np.int64]
) -> Coverage:
    """How much of some rows both tokenisations share; what was counted before is left out.

    Args:
        student, teacher: the same rows as each of them reads these.
        joining: finds where both stand.
        rows: of both sets.
    """
    fresh = replace(joining, coverage=Coverage())
    for some in np.array_split(rows, -(-len(rows) // _TOGETHER)):
        fresh.join(student.batch(some), teacher.batch(some))
    return fresh.coverage


def _writer(batch: Batch, row: int) -> Origin:
    """Who wrote a row's response."""
    for writer in WRITERS:
        mask = batch.masks.get(f"{writer}_written")
        if mask is not None and bool(mask[row].any()):
            return writer
    return "data"
