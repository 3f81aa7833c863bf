"""Stacks of experts: each is a parameter of its own, and rows come sorted by expert."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from preceptor.selection.linear import linear
from preceptor.selection.strange import refusal
from preceptor.selection.tracked import Step, Tracked

TURN = Tensor.transpose
GROUPED = getattr(torch, "_grouped_mm", None)  # Of newer versions.


def straight(value: Tracked) -> tuple[Tracked, bool]:
    """A matrix, or a stack of them, as the parameter has it, and whether it was transposed."""
    turns = sum(step.func is TURN for step in value.steps)
    found = value.after(Step(TURN, (-2, -1))) if turns % 2 else value
    found.steps = tuple(step for step in value.steps if step.func is not TURN)
    return found, turns % 2 == 1


def part(_: Any, value: Tracked, index: Any) -> Tracked:
    """One of a stack of experts: a parameter of its own, where all rows are one example's."""
    own = value.entry
    is_number = isinstance(index, int) or (isinstance(index, Tensor) and index.dim() == 0)
    if not is_number or isinstance(index, bool) or own.ledger.examples > 1 or not own.has_parts:
        raise refusal(own, "in `__getitem__`")
    part = Tracked.of(value.plain()[index], own.part(int(index)), value.uses)
    part.steps = value.steps
    return part


def turned(_: Any, value: Tracked, *axes: int) -> Tracked:
    """A matrix, or a stack of them, transposed; its size by `.T`, without axes."""
    count = value.dim()
    last = {axis % count for axis in axes} == {count - 2, count - 1} if axes else count == 2
    if not last or count not in (2, 3):
        raise refusal(value.entry, "transposed")
    return value.after(Step(TURN, (-2, -1)))


def grouped(
    _: Any,
    input: Tensor,
    mat_b: Tracked,
    offs: Tensor | None = None,
    bias: Any = None,
    out_dtype: Any = None,
) -> Tensor:
    """Each expert's rows stand together, and end where `offs` says."""
    entry, (stack, is_turned) = mat_b.entry, straight(mat_b)
    ends = [] if offs is None else offs.tolist()
    is_known = bias is None and out_dtype is None and entry.has_parts and len(ends) == len(mat_b)
    if entry.ledger.examples > 1 or not is_known:
        raise refusal(entry, "in a product by groups")
    parts: list[Tensor] = []
    for number, (start, end) in enumerate(pairwise([0, *ends])):
        if end > start:
            weight = (stack.plain()[number], entry.part(number))
            parts.append(linear(entry.ledger, input[start:end], weight, transposed=not is_turned))
    rest = len(input) - ends[-1]
    return torch.cat([*parts, input.new_zeros(rest, mat_b.shape[2])])
