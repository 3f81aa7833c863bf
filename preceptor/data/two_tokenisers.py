"""One batch for two models that cut the same text into other tokens.

Dimension key: b rows, t tokens of the student, s tokens of the teacher.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from jaxtyping import Int
from torch import Tensor

from preceptor.data.alignment import Alignment, Boundaries, Coverage, align
from preceptor.data.pieces import Pieces
from preceptor.data.vocabulary import counterparts
from preceptor.errors import DataError
from preceptor.types import Batch

Positions = Literal["bytes", "order"]
"""Which of the teacher's positions answers the student's: the one that has read the same bytes of
the response, or the one of the same number ("Towards Cross-Tokenizer Distillation", 2402.12030)."""


@final
@dataclass
class TwoTokenisers:
    """Joins a batch as the student reads it with the same rows as the teacher reads them.

    The joined batch is the student's, with the teacher's own tokens as `teacher_inputs`; and

    - `masks["aligned"]` [b, t]: positions from which both models have read the same bytes of the
      response, so that both predict the same text; a chunk that both share begins at each;
    - `teacher_positions` [b, t]: where the teacher stands there; -1 elsewhere;
    - with `chunks`, `extra["chunk"]` [b, t]: the student's position where each scored position's
      chunk begins, -1 outside of chunks; `extra["teacher_chunk"]` [b, s] the same for the
      teacher's positions, still counted in the student's; and `extra["teacher_labels"]` [b, s].

    Prompts are never aligned. `coverage` adds up over the batches that were joined.

    Args:
        student, teacher: the tokens of each side as bytes, their marks the same.
        chunks: whether a method for chunks (byte_chunks) is to read the batch.
        boundaries: which boundaries end a chunk (`alignment.Boundaries`).
        positions: "bytes", or "order" as in the paper of ULD (the sequences cut to the shorter);
            chunks are aligned by bytes either way, so "order" has none.
    """

    student: Pieces
    teacher: Pieces
    chunks: bool = True
    boundaries: Boundaries = "meeting"
    positions: Positions = "bytes"
    coverage: Coverage = field(default_factory=Coverage)

    @classmethod
    def of(cls, student: Any, teacher: Any, **options: Any) -> "TwoTokenisers":
        """From two fast tokenizers of transformers; special tokens of one name or role are one."""
        marks = counterparts(student, teacher)
        numbers = {theirs: i for i, theirs in enumerate(sorted(set(marks.values())))}
        own = {mine: numbers[theirs] for mine, theirs in marks.items()}
        return cls(Pieces(student, own), Pieces(teacher, numbers), **options)

    def join(self, student: Batch, teacher: Batch) -> Batch:
        """The student's batch, knowing where the teacher stands.

        Args:
            student: the rows as the student reads them.
            teacher: the same rows, in the same order, as the teacher reads them.

        Raises:
            DataError: the batches are not of the same rows.
        """
        if not torch.equal(student.ids, teacher.ids):
            raise DataError(
                f"the student's batch is of the rows {student.ids.tolist()[:4]}..., the teacher's "
                f"of {teacher.ids.tolist()[:4]}...",
                "both models must read the same rows in the same order",
                "Make both batches from the same indices.",
            )
        shape, wide = student.labels.shape, teacher.labels.shape
        places = torch.full(shape, -1)
        own, others = torch.full(shape, -1), torch.full(wide, -1)
        for row in range(len(student)):
            # From the last on: what was cut off was cut at the beginning.
            for mine, theirs in zip(_runs(student, row), _runs(teacher, row), strict=False):
                self._join_response(student, teacher, row, mine, theirs, (places, own, others))
        fields = student.fields()
        known = {"chunk": own, "teacher_chunk": others, "teacher_labels": teacher.labels}
        fields["extra"] = {**student.extra, **(known if self.chunks else {})}
        fields["masks"] = {**student.masks, "aligned": places >= 0}
        fields["teacher_inputs"], fields["teacher_positions"] = teacher.inputs, places
        return Batch(**fields)

    def _join_response(
        self,
        student: Batch,
        teacher: Batch,
        row: int,
        mine: slice,
        theirs: slice,
        into: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        places, own, others = into
        found = self.aligned(student.labels[row, mine], teacher.labels[row, theirs])
        self.coverage = self.coverage + found.coverage
        if self.positions == "order":
            count = min(mine.stop - mine.start, theirs.stop - theirs.start)
            steps = torch.arange(count)
            places[row, mine.start + steps] = theirs.start + steps
            return
        for (a, b), (c, d) in zip(found.student.tolist(), found.teacher.tolist(), strict=True):
            begins = mine.start + a
            places[row, begins] = theirs.start + c
            own[row, begins : mine.start + b] = begins
            others[row, theirs.start + c : theirs.start + d] = begins

    def translated(self, batch: Batch, row: int) -> list[int]:
        """The teacher's own tokens of a row's last response in the student's: of a rollout, say.

        Bytes that are no text are read as U+FFFD. A special token of the student becomes the
        teacher's counterpart, or nothing where there is none.
        """
        theirs = {mark: i for i, mark in self.teacher.marks.items()}
        last = next(_runs(batch, row), slice(0, 0))
        found: list[int] = []
        plain: list[int] = []
        for i in [*batch.labels[row, last].tolist(), None]:
            mark = None if i is None else self.student.marks.get(i)
            if i is not None and mark is None:
                plain.append(i)
                continue
            text = self.student.tokens(plain).text()
            found += self.teacher.tokenizer.encode(text, add_special_tokens=False) if text else []
            found += [theirs[mark]] if mark is not None else []
            plain = []
        return found

    def aligned(self, student: Int[Tensor, " n"], teacher: Int[Tensor, " m"]) -> Alignment:
        """The chunks of one response, from each side's tokens."""
        sure = self.boundaries == "certain"
        ours, theirs = student.tolist(), teacher.tolist()
        plain, foreign = self.student.tokens(ours), self.teacher.tokens(theirs)
        # What loses bytes is read by its offsets in the text that the other side gives back.
        mine = self.student.tokens(ours, foreign.text(), sure=sure)
        other = self.teacher.tokens(theirs, plain.text(), sure=sure)
        return align(mine, other, self.boundaries)


def _runs(batch: Batch, row: int) -> Iterator[slice]:
    """The responses of a row, the last one first: stretches of scored positions."""
    scored = torch.nn.functional.pad(batch.mask("all")[row].to(torch.int8), (1, 1)).diff()
    starts, stops = (scored == 1).nonzero().flatten(), (scored == -1).nonzero().flatten()
    for start, stop in reversed(list(zip(starts.tolist(), stops.tolist(), strict=True))):
        yield slice(start, stop)
