"""From examples of different lengths to one batch; the only place where labels are shifted.

Dimension key: b examples, t tokens, n tokens of one example.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.teacher_view import Seen
from preceptor.types import Batch

Origin = Literal["data", "student", "teacher"]
"""Who wrote a response."""

WRITERS: tuple[Origin, Origin] = ("student", "teacher")
"""Whose responses have a mask of their own: "student_written", "teacher_written"."""


@final
@dataclass(frozen=True)
class Example:
    """One sequence of a batch.

    Args:
        ids: token ids [n].
        scored: which of them are predicted and scored [n]; the first never is.
        row: its number.
        origin: who wrote what is scored.
        teacher: what the teacher sees, where that differs.
        extra: numbers for each scored token, by name.
    """

    ids: NDArray[np.integer]
    scored: NDArray[np.bool_]
    row: int
    origin: Origin = "data"
    teacher: Seen | None = None
    extra: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)


def collated(
    examples: Sequence[Example],
    *,
    pad: int,
    teacher_pad: int = 0,
    length: int | None = None,
    teacher_length: int | None = None,
    multiple: int = 8,
) -> Batch:
    """One batch, padded on the right; positions are scored where the next token is.

    Args:
        examples: all of them with a teacher's view, or none.
        pad: stands where no token is; `attention_mask` and the masks know it by lengths alone.
        teacher_pad: the same in the teacher's sequences.
        length: tokens to pad to; the longest, rounded up, where not given.
        teacher_length: the same for the teacher's sequences.
        multiple: what lengths that are not given are rounded up to a multiple of.
    """
    sequences = [example.ids for example in examples]
    inputs = _padded(sequences, pad, length, multiple)
    shape = tuple(inputs["input_ids"].shape)
    labels, row, offset = (np.full(shape, -1, np.int64) for _ in range(3))
    names = dict.fromkeys(name for example in examples for name in example.extra)
    extra = {name: np.zeros(shape, np.float32) for name in names}
    for i, example in enumerate(examples):
        places = example.scored.nonzero()[0] - 1
        labels[i, places] = example.ids[places + 1]
        if example.origin == "data":
            row[i, places], offset[i, places] = example.row, np.arange(len(places))
        for name, values in example.extra.items():
            extra[name][i, places] = values
    mask = torch.from_numpy(labels >= 0)
    origins: list[Origin] = [example.origin for example in examples]
    teacher_inputs, teacher_positions = None, None
    if any(example.teacher is not None for example in examples):
        views = [_view(example) for example in examples]
        teacher_inputs = _padded([v.ids for v in views], teacher_pad, teacher_length, multiple)
        teacher_positions = _places(examples, views, shape)
    tensors = {name: torch.from_numpy(values) for name, values in extra.items()}
    tensors |= {"row": torch.from_numpy(row), "offset": torch.from_numpy(offset)}
    return Batch(
        inputs,
        labels=torch.from_numpy(labels),
        mask=mask,
        ids=torch.tensor([example.row for example in examples], dtype=torch.int64),
        teacher_inputs=teacher_inputs,
        teacher_positions=teacher_positions,
        origin=origins[0] if len(set(origins)) == 1 else "data",
        masks={f"{who}_written": mask & _wrote(origins, who) for who in WRITERS},
        extra=tensors,
    )


def rounded(length: int, multiple: int) -> int:
    """The next multiple.

    >>> rounded(9, 8)
    16
    """
    return -(-max(length, 1) // multiple) * multiple


def _padded(
    sequences: Sequence[NDArray[np.integer]], pad: int, length: int | None, multiple: int
) -> dict[str, Tensor]:
    longest = max((len(sequence) for sequence in sequences), default=1)
    shape = (len(sequences), length or rounded(longest, multiple))
    ids, attention = np.full(shape, pad, np.int64), np.zeros(shape, np.int64)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)], attention[i, : len(sequence)] = sequence, 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(attention)}


def _view(example: Example) -> Seen:
    return example.teacher or Seen(example.ids.astype(np.int32), example.scored, 0)


def _places(examples: Sequence[Example], views: Sequence[Seen], shape: tuple[int, ...]) -> Tensor:
    """Where in the teacher's sequence its answer to each scored position stands."""
    places = np.full(shape, -1, np.int64)
    for i, (example, view) in enumerate(zip(examples, views, strict=True)):
        places[i, example.scored.nonzero()[0] - 1] = view.scored.nonzero()[0] - 1
    return torch.from_numpy(places)


def _wrote(origins: Sequence[Origin], who: Origin) -> Tensor:
    return torch.tensor([origin == who for origin in origins], dtype=torch.bool)[:, None]
