"""Text as batches: rows rendered once into flat arrays of four bytes a token.

Dimension key: b examples of a batch, n examples of a set.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preceptor.data.chat import Rendering
from preceptor.data.collate import Example, Origin, collated
from preceptor.data.compose import Ids, each_origin, joined, written
from preceptor.data.compose import compose as compose
from preceptor.data.ragged import Ragged
from preceptor.data.rendered import Rendered
from preceptor.data.rows import Row
from preceptor.data.teacher_view import Seen, TeacherView
from preceptor.errors import DataError
from preceptor.types import Batch


@final
class TextSet:
    """Rows as one model reads them, and as its teacher does where that differs.

    Example `i` has the id `i`. A row is one example; a document longer than the context is one
    example a window (`Rendering.pieces`), so `row(i)` says which row it is of. Rows are rendered
    when the set is made: whatever cannot be read is refused before anything is trained.

    Args:
        rows: what the data says.
        rendering: how the student reads it.
        teacher: how the teacher reads it, where its template or its context differ; its vocabulary
            is the same. Without it, rows with a prompt for the teacher alone are rendered as the
            student would see them.
        name: what to call the set in a message.

    Raises:
        DataError: a row cannot be rendered, or nothing is left.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        rendering: Rendering,
        teacher: Rendering | None = None,
        *,
        name: str = "training",
    ) -> None:
        self.rows, self.rendering, self.name = rows, rendering, name
        if teacher is None and any(row.has_privileged_prompt for row in rows):
            teacher = rendering
        self._view = None if teacher is None else TeacherView(rendering, teacher)
        self.teacher = teacher
        pieces = self._pieces()
        rendered = [piece for _, piece in pieces]
        self._source = np.array([i for i, _ in pieces], np.int64)
        self._ids = Ragged.of((r.ids for r in rendered), np.int32)
        self._scored = Ragged.of((r.scored for r in rendered), np.bool_)
        self._prompts = np.array([len(r.prompt) for r in rendered], np.int64)
        self._bytes = np.array([r.bytes for r in rendered], np.int64)
        self._seen = self._seen_by_teacher(rendered)
        if not len(self):
            raise DataError(
                f"the {name} set is empty",
                f"{len(self.dropped)} rows were dropped because they are too long"
                if self.dropped
                else "no rows were given",
                "Raise max_length, or give rows.",
            )

    def _pieces(self) -> list[tuple[int, Rendered]]:
        """Every row's pieces, or one refusal for all rows that have none."""
        pieces: list[tuple[int, Rendered]] = []
        refusals: list[DataError] = []
        for i, row in enumerate(self.rows):
            try:
                pieces += [(i, piece) for piece in self.rendering.pieces(row)]
            except DataError as error:
                refusals.append(error)
        if not refusals:
            return pieces
        first, others = refusals[0], refusals[1:4]
        if not others:
            raise first
        told = "; ".join([first.seen, *(f"{e.seen} ({e.why})" for e in others)])
        raise DataError(f"{len(refusals)} rows are refused: {told}", first.why, first.do)

    def _seen_by_teacher(self, rendered: Sequence[Rendered]) -> "_Views | None":
        if self._view is None:
            return None
        seen = [self._view.of(self.row(i), each) for i, each in enumerate(rendered)]
        alike = all(
            np.array_equal(s.ids, r.ids) and np.array_equal(s.scored, r.scored)
            for s, r in zip(seen, rendered, strict=True)
        )
        return None if alike else _Views.of(seen)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def vocabulary(self) -> int:
        """How many tokens the student's tokenizer knows."""
        return self.rendering.vocabulary

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example [n]."""
        return self._ids.lengths

    @property
    def prompt_lengths(self) -> NDArray[np.int64]:
        """Tokens before each example's last response [n]."""
        return self._prompts

    @property
    def teacher_lengths(self) -> NDArray[np.int64] | None:
        """Tokens of each example as the teacher sees it [n]; None where it sees the same."""
        return None if self._seen is None else self._seen.ids.lengths

    @cached_property
    def scored(self) -> NDArray[np.int64]:
        """Scored tokens of each example [n]."""
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._scored.values)])
        return np.diff(ends[self._scored.offsets])

    @cached_property
    def dropped(self) -> tuple[str, ...]:
        """Places of the rows that were left out because they are too long."""
        kept = set(self._source.tolist())
        return tuple(row.place for i, row in enumerate(self.rows) if i not in kept)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of every id, of what is scored, and of what the teacher sees."""
        arrays = [self._ids, self._scored]
        if self._seen is not None:
            arrays += [self._seen.ids, self._seen.scored]
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(array.offsets.tobytes())
            digest.update(array.values.tobytes())
        return digest.hexdigest()

    def row(self, index: int) -> Row:
        """The row of the data that an example comes from."""
        return self.rows[int(self._source[index])]

    def prompts(self, indices: Ids) -> list[NDArray[np.int32]]:
        """What stands before each example's last response."""
        return [self._ids[i][: self._prompts[i]] for i in _list(indices)]

    def responses(self, indices: Ids) -> list[NDArray[np.int32]]:
        """Each example's own last response; empty where it is a prompt alone."""
        return [self._ids[i][self._prompts[i] :] for i in _list(indices)]

    def teacher_prompts(self, indices: Ids) -> list[NDArray[np.int32]]:
        """What stands before each example's last response as the teacher sees it."""
        if self._seen is None:
            return self.prompts(indices)
        seen = (self._seen[i] for i in _list(indices))
        return [view.ids[: view.prompt] for view in seen]

    def bytes(self, indices: Ids) -> NDArray[np.int64]:
        """UTF-8 bytes of what is scored of each: bits divided by them are bits per byte."""
        return self._bytes[_list(indices)]

    def batch(
        self,
        indices: Ids,
        *,
        length: int | None = None,
        teacher_length: int | None = None,
        multiple: int = 8,
    ) -> Batch:
        """Some examples, padded to one length (a multiple of `multiple`, or `length` itself)."""
        return self._collated(
            [self.example(i) for i in _list(indices)], length, teacher_length, multiple
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All examples once in their order, `size` at a time: for evaluation."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))

    def compose(
        self,
        indices: Ids,
        responses: Sequence[ArrayLike],
        origin: Origin | Sequence[Origin],
        *,
        extra: Mapping[str, Sequence[ArrayLike]] | None = None,
        length: int | None = None,
        teacher_length: int | None = None,
        multiple: int = 8,
    ) -> Batch:
        """These examples' prompts with other responses after them: rollouts.

        Args:
            indices: examples, as often as wanted.
            responses: token ids after each prompt, with the token that ends them
                (`rendering.end`) where the writer came to an end. Those of origin "data" are not
                read: the example stands as it is, all its turns scored.
            origin: who wrote: "data", "student" or "teacher"; for all, or one an example.
            extra: numbers for each response token, by name ("sampled_log_p"), one sequence an
                example; 0 elsewhere.
            length: tokens to pad to.
            teacher_length: the same for the teacher's sequences.
            multiple: what lengths that are not given are rounded up to a multiple of.
        """
        listed = _list(indices)
        writers = each_origin(origin, len(listed))
        prompts, theirs = self.prompts(indices), self.teacher_prompts(indices)
        examples: list[Example] = []
        for k, (index, writer) in enumerate(zip(listed, writers, strict=True)):
            if writer == "data":
                examples.append(self.example(index))
                continue
            numbers = {name: np.asarray(each[k]) for name, each in (extra or {}).items()}
            response = np.asarray(responses[k], np.int32)
            seen = None if self._seen is None else self._after(theirs[k], response)
            examples.append(written(prompts[k], response, index, writer, seen, numbers))
        return self._collated(examples, length, teacher_length, multiple)

    def _after(self, prompt: NDArray[np.int32], response: NDArray[np.int32]) -> Seen:
        assert self._view is not None
        return joined(prompt, self._view.response(response))

    def example(self, index: int) -> Example:
        """One example, ready to be collated."""
        seen = None if self._seen is None else self._seen[index]
        return Example(self._ids[index], self._scored[index], index, teacher=seen)

    def _collated(
        self,
        examples: Sequence[Example],
        length: int | None,
        teacher_length: int | None,
        multiple: int,
    ) -> Batch:
        return collated(
            examples,
            pad=self.rendering.pad,
            teacher_pad=self.rendering.pad if self.teacher is None else self.teacher.pad,
            length=length,
            teacher_length=teacher_length,
            multiple=multiple,
        )


@final
@dataclass(frozen=True)
class _Views:
    """What the teacher sees of every example."""

    ids: Ragged
    scored: Ragged
    prompts: NDArray[np.int64]

    @classmethod
    def of(cls, seen: Sequence[Seen]) -> "_Views":
        ids = Ragged.of((s.ids for s in seen), np.int32)
        scored = Ragged.of((s.scored for s in seen), np.bool_)
        return cls(ids, scored, np.array([s.prompt for s in seen], np.int64))

    def __getitem__(self, index: int) -> Seen:
        return Seen(self.ids[index], self.scored[index], int(self.prompts[index]))


def _list(ids: Ids) -> list[int]:
    return np.asarray(ids, dtype=np.int64).tolist()
