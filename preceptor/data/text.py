"""Text as batches: rows rendered once into flat arrays, labels shifted once.

Dimension key: b rows of a batch, t tokens, n rows of a set.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.chat import Rendering
from preceptor.data.ragged import Ragged
from preceptor.data.rows import Row
from preceptor.types import Batch

Ids = Sequence[int] | NDArray[np.integer] | Int[Tensor, " _"]
"""Token ids of one row."""
WRITERS = ("student", "teacher")
"""Whose responses have a mask of their own: "student_written", "teacher_written"."""


@final
class TextSet:
    """Rows as one model reads them, and as its teacher does where that differs.

    Example `i` of the set has the id `i`.

    Args:
        rows: what the data says.
        rendering: how the student reads it.
        teacher: how the teacher reads it, where its template or its prompts differ; the vocabulary
            is the same.
        name: what to call the set in a message.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        rendering: Rendering,
        teacher: Rendering | None = None,
        *,
        name: str = "training",
    ) -> None:
        self.rows, self.rendering, self.teacher, self.name = rows, rendering, teacher, name
        rendered = [rendering.render(row) for row in rows]
        self._ids = Ragged.of((r.ids for r in rendered), np.int32)
        self._scored = Ragged.of((r.scored for r in rendered), np.bool_)
        self._prompts = np.array([len(r.prompt) for r in rendered], np.int64)
        self._bytes = np.array([r.bytes for r in rendered], np.int64)

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

    def row(self, index: int) -> Row:
        """The row of the data that an example comes from."""
        return self.rows[index]

    def prompts(self, indices: Ids) -> list[NDArray[np.int32]]:
        """What stands before each example's last response."""
        return [self._ids[i][: self._prompts[i]] for i in _list(indices)]

    def responses(self, indices: Ids) -> list[NDArray[np.int32]]:
        """Each example's own last response; empty where it is a prompt alone."""
        return [self._ids[i][self._prompts[i] :] for i in _list(indices)]

    def bytes(self, indices: Ids) -> NDArray[np.int64]:
        """UTF-8 bytes of what is scored of each."""
        return self._bytes[_list(indices)]

    def batch(self, indices: Ids, *, length: int | None = None, multiple: int = 8) -> Batch:
        """Some examples, padded to one length (a multiple of `multiple`, or `length` itself)."""
        listed = _list(indices)
        return _batch(
            [self._ids[i] for i in listed],
            [self._scored[i] for i in listed],
            listed,
            self.rendering.pad,
            origin=["data"] * len(listed),
            length=length,
            multiple=multiple,
        )

    def compose(
        self,
        indices: Ids,
        responses: Sequence[Ids],
        origin: str | Sequence[str],
        *,
        extra: Mapping[str, Sequence[Any]] | None = None,
        length: int | None = None,
        multiple: int = 8,
    ) -> Batch:
        """These examples' prompts with other responses after them: rollouts.

        Args:
            indices: examples, as often as wanted.
            responses: token ids after each prompt, with the token that ends them where the writer
                came to an end.
            origin: who wrote: "data", "student" or "teacher"; for all, or one an example.
            extra: numbers for each response token, by name ("sampled_log_p"); 0 elsewhere.
            length: the tokens that the batch is padded to.
            multiple: where `length` is not given, pad to a multiple of this.
        """
        return compose(
            self.prompts(indices),
            responses,
            origin,
            ids=indices,
            pad=self.rendering.pad,
            extra=extra,
            length=length,
            multiple=multiple,
        )


def compose(
    prompts: Sequence[Ids],
    responses: Sequence[Ids],
    origin: str | Sequence[str],
    *,
    ids: Ids,
    pad: int = 0,
    teacher_prompts: Sequence[Ids] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    length: int | None = None,
    multiple: int = 8,
) -> Batch:
    """A batch of prompts and given responses, all tokens of the responses scored.

    Args:
        prompts: token ids before each response.
        responses: token ids of each response.
        origin: who wrote: "data", "student" or "teacher"; for all, or one a row.
        ids: the rows' numbers.
        pad: what stands where nothing is.
        teacher_prompts: what the teacher sees before the same response, where that differs.
        extra: numbers for each response token, by name; 0 elsewhere.
        length: the tokens that the batch is padded to.
        multiple: where `length` is not given, pad to a multiple of this.
    """
    del teacher_prompts, extra
    whole = [
        np.concatenate([_array(p), _array(r)]) for p, r in zip(prompts, responses, strict=True)
    ]
    scored = [np.arange(len(w)) >= max(1, len(p)) for w, p in zip(whole, prompts, strict=True)]
    each = [origin] * len(whole) if isinstance(origin, str) else list(origin)
    return _batch(whole, scored, _list(ids), pad, origin=each, length=length, multiple=multiple)


def _batch(
    ids: Sequence[NDArray],
    scored: Sequence[NDArray[np.bool_]],
    rows: Sequence[int],
    pad: int,
    *,
    origin: Sequence[str],
    length: int | None,
    multiple: int,
) -> Batch:
    longest = max((len(each) for each in ids), default=1)
    width = length or -(-longest // multiple) * multiple
    shape = (len(ids), width)
    tokens, attention = np.full(shape, pad, np.int64), np.zeros(shape, np.int64)
    labels, row, offset = (np.full(shape, -1, np.int64) for _ in range(3))
    for i, (each, counts) in enumerate(zip(ids, scored, strict=True)):
        tokens[i, : len(each)], attention[i, : len(each)] = each, 1
        places = counts.nonzero()[0] - 1
        labels[i, places] = each[places + 1]
        row[i, places], offset[i, places] = rows[i], np.arange(len(places))
    mask = torch.from_numpy(labels >= 0)
    written = {
        f"{who}_written": mask & torch.tensor([o == who for o in origin])[:, None]
        for who in WRITERS
    }
    return Batch(
        {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(attention)},
        labels=torch.from_numpy(labels),
        mask=mask,
        ids=torch.as_tensor(rows, dtype=torch.int64),
        origin=origin[0] if len(set(origin)) == 1 else "data",
        masks=written,
        extra={"row": torch.from_numpy(row), "offset": torch.from_numpy(offset)},
    )


def _array(ids: Ids) -> NDArray[np.int64]:
    return np.asarray(ids, dtype=np.int64)


def _list(ids: Ids) -> list[int]:
    return _array(ids).tolist()
