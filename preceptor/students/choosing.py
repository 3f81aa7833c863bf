"""What is kept along the other axes: blocks, key-value groups, heads in them, head size, neurons.

One choice holds for every tensor that carries the axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.errors import ModelError
from preceptor.students.architecture import Sizes
from preceptor.students.axes import FUSED
from preceptor.students.bases import evenly, most

Depth = Literal["even", "first", "influence"]


@dataclass(frozen=True)
class Importance:
    """How much each part of a block matters, from activations; any scale, larger is more."""

    heads: Float[Tensor, " h"]
    neurons: Float[Tensor, " n"]


@dataclass(frozen=True)
class Choice:
    """The indices kept in one block, by axis, as its tensors count them.

    Args:
        of: the number of the teacher's block.
        kept: axis -> indices, for heads, groups, the two fused, size and neurons.
        until: the last of the teacher's blocks that it stands for: `of`, unless its writers are
            to make up for those left out behind it.
    """

    of: int
    kept: dict[str, Int[Tensor, " k"]]
    until: int


def require_smaller(teacher: Sizes, student: Sizes) -> None:
    """Raise `ModelError` where an axis of the student is longer than its teacher's."""
    for axis in ("stream", "blocks", "heads", "groups", "size", "neurons"):
        theirs, own = getattr(teacher, axis), getattr(student, axis)
        if own > theirs:
            raise ModelError(
                f"the student has {own} on the axis {axis!r}, its teacher {theirs}",
                "a student that begins inside its teacher is cut out of it",
                "Choose a student that is nowhere larger, or start it at random.",
            )
    if student.heads // student.groups > teacher.heads // teacher.groups:
        raise ModelError(
            f"heads to a key-value group: the student has {student.heads // student.groups}, its "
            f"teacher {teacher.heads // teacher.groups}",
            "heads that share keys in the student must share them in the teacher",
            "Give the student more key-value groups, or fewer heads.",
        )


def depth_map(
    how: Depth, blocks: int, kept: int, influence: Sequence[float] | None = None
) -> tuple[int, ...]:
    """The teacher's block that each of the student's begins as, ascending.

    Args:
        how: `even` keeps both ends and spaces the rest; `first` takes the first; `influence`
            leaves out the blocks that change the stream's direction least.
        blocks, kept: of teacher and student.
        influence: of each block, for `influence` alone.

    Xin Men et al. "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect".
    Findings of ACL 2025. arXiv:2403.03853 (block influence).

    >>> depth_map("even", 6, 4), depth_map("first", 6, 2)
    ((0, 2, 3, 5), (0, 1))
    """
    if how == "first" or kept == blocks:
        return tuple(range(kept))
    if how == "influence":
        if influence is None:
            raise ModelError(
                "blocks were to be chosen by their influence",
                "influence is measured on text or images, and none was given",
                "Give calibration batches and a live teacher, or space the blocks evenly.",
            )
        return tuple(most(torch.tensor(influence), kept).tolist())
    if kept == 1:
        return (0,)
    # Halves are rounded up: Python's own rounding would take two of them to one block.
    return tuple(int(n * (blocks - 1) / (kept - 1) + 0.5) for n in range(kept))


def chosen(
    teacher: Sizes,
    student: Sizes,
    of: int,
    importance: Importance | None = None,
    *,
    rotary: bool = False,
) -> Choice:
    """What one block keeps: evenly spaced, or by importance.

    Groups are chosen first and then heads in each, so a head keeps the keys that it had. Where
    positions turn queries and keys, head sizes shrink by a whole factor s alone: every s-th index
    keeps each pair together, and at the frequency of a head of the student's size.

    Errors:
        ModelError: a rotary head size that does not shrink by a whole factor.
    """
    require_smaller(teacher, student)
    if rotary and teacher.size % student.size:
        raise ModelError(
            f"heads of {teacher.size} numbers were to become heads of {student.size}",
            "rotary positions turn pairs of them, each by its own frequency, and only every "
            "second, third, ... pair has a frequency of the smaller head",
            f"Choose a head size that divides {teacher.size}.",
        )
    theirs, own = teacher.heads // teacher.groups, student.heads // student.groups
    scores = None if importance is None else importance.heads.view(teacher.groups, theirs)
    groups = _kept(teacher.groups, student.groups, None if scores is None else scores.sum(1))
    heads = torch.cat(
        [g * theirs + _kept(theirs, own, None if scores is None else scores[g]) for g in groups]
    )
    size = evenly(teacher.size, student.size)
    neurons = _kept(
        teacher.neurons, student.neurons, None if importance is None else importance.neurons
    )
    in_heads = (heads[:, None] * teacher.size + size).flatten()
    in_groups = (groups[:, None] * teacher.size + size).flatten()
    after_heads, after_keys = teacher.heads * teacher.size, teacher.groups * teacher.size
    fused = [in_heads, after_heads + in_groups, after_heads + after_keys + in_groups]
    return Choice(
        of,
        {
            "heads": in_heads,
            "groups": in_groups,
            FUSED: torch.cat(fused),
            "size": size,
            "neurons": neurons,
        },
        until=of,
    )


def _kept(total: int, kept: int, importance: Tensor | None) -> Tensor:
    return evenly(total, kept) if importance is None else most(importance, kept)
