"""Batches of prompts and responses that somebody wrote: rollouts."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from preceptor.data.collate import Example, Origin, collated
from preceptor.data.teacher_view import Seen
from preceptor.errors import DataError
from preceptor.types import Batch

Ids = Sequence[int] | NDArray[np.integer] | Int[Tensor, " _"]
"""Numbers of examples."""


def compose(
    prompts: Sequence[ArrayLike],
    responses: Sequence[ArrayLike],
    origin: Origin | Sequence[Origin],
    *,
    ids: Ids,
    pad: int = 0,
    teacher_prompts: Sequence[ArrayLike] | None = None,
    extra: Mapping[str, Sequence[ArrayLike]] | None = None,
    length: int | None = None,
    multiple: int = 8,
) -> Batch:
    """A batch of prompts and given responses, all tokens of the responses scored.

    `TextSet.compose` does the same from examples, and knows what the teacher sees.

    Args:
        prompts: token ids before each response.
        responses: token ids of each response.
        origin: who wrote: "data", "student" or "teacher"; for all, or one a row.
        ids: the rows' numbers.
        pad: what stands where nothing is.
        teacher_prompts: what the teacher sees before the same response, where that differs.
        extra: numbers for each response token, by name, one sequence a row; 0 elsewhere.
        length: tokens to pad to.
        multiple: where `length` is not given, pad to a multiple of this.
    """
    listed: list[int] = np.asarray(ids, dtype=np.int64).tolist()
    writers = each_origin(origin, len(listed))
    examples: list[Example] = []
    for k, (row, writer) in enumerate(zip(listed, writers, strict=True)):
        prompt, response = np.asarray(prompts[k], np.int32), np.asarray(responses[k], np.int32)
        numbers = {name: np.asarray(each[k]) for name, each in (extra or {}).items()}
        seen = None
        if teacher_prompts is not None:
            seen = joined(np.asarray(teacher_prompts[k], np.int32), response)
        examples.append(written(prompt, response, row, writer, seen, numbers))
    return collated(examples, pad=pad, teacher_pad=pad, length=length, multiple=multiple)


def each_origin(origin: Origin | Sequence[Origin], count: int) -> list[Origin]:
    """Who wrote each of `count` responses, where one writer may be said for all."""
    given: Sequence[Origin] = (origin,) * count if isinstance(origin, str) else origin
    if len(given) != count:
        raise DataError(
            f"{len(given)} origins for {count} responses",
            "each has one writer",
            "Give one for all, or one a response.",
        )
    return list(given)


def joined(prompt: NDArray[np.int32], response: NDArray[np.int32]) -> Seen:
    """A response after a prompt, all of it scored."""
    ids = np.concatenate([prompt, response])
    return Seen(ids, np.arange(len(ids)) >= len(prompt), len(prompt))


def written(
    prompt: NDArray[np.int32],
    response: NDArray[np.int32],
    row: int,
    origin: Origin,
    seen: Seen | None,
    extra: Mapping[str, NDArray],
) -> Example:
    """The example that somebody's response makes of a prompt."""
    if not len(prompt) or (seen is not None and not seen.prompt):
        raise DataError(
            f"the response to row {row} has no prompt before it",
            "nothing would predict its first token",
            "Begin prompts with the beginning-of-sequence token, or with any other.",
        )
    whole = joined(prompt, response)
    return Example(whole.ids, whole.scored, row, origin, seen, extra)
