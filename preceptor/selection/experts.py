"""Stacks of experts: each is a parameter of its own, and rows come sorted by expert."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.selection.arguments import first, pair
from preceptor.selection.entry import Entry
from preceptor.selection.linear import add_product
from preceptor.selection.owners import Owners, owners
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
    """One of a stack of experts: a parameter of its own."""
    own = value.entry
    is_number = isinstance(index, int) or (isinstance(index, Tensor) and index.dim() == 0)
    if not is_number or isinstance(index, bool) or not own.has_parts:
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
    mat_b: Any,
    offs: Tensor | None = None,
    bias: Any = None,
    out_dtype: Any = None,
) -> Tensor:
    """Each expert's rows stand together, and end where `offs` says."""
    _require_stack(input, mat_b)
    entry, (stack, is_turned) = mat_b.entry, straight(mat_b)
    ends = [] if offs is None else offs.tolist()
    is_known = bias is None and out_dtype is None and entry.has_parts and len(ends) == len(mat_b)
    whose = owners(input, entry.ledger.examples)
    if not is_known or (whose is None and entry.ledger.examples > 1):
        raise refusal(entry, "in a product by groups")
    return _by_runs(input, stack, is_turned, ends, whose)


def in_batches(_: Any, input: Tensor, mat2: Any) -> Tensor:
    """[e, n, a] @ [e, a, o]: every expert is given as many rows, of one example after another."""
    _require_stack(input, mat2)
    entry, (stack, is_turned) = mat2.entry, straight(mat2)
    examples, (count, each, _) = entry.ledger.examples, input.shape
    if not entry.has_parts or each % examples:
        raise refusal(entry, "in products in batches")
    whose = torch.arange(examples, device=input.device).repeat_interleave(each // examples)
    own = Owners(whose.repeat(count), examples)
    ends = [each * (number + 1) for number in range(count)]
    found = _by_runs(input.flatten(0, 1), stack, is_turned, ends, own)
    return found.unflatten(0, (count, each))


def _require_stack(x: Any, stack: Any) -> None:
    """Raise where the parameter is not the second factor alone.

    Raises:
        Strange: it is the first one, or both are parameters.
    """
    if isinstance(x, Tracked) or not isinstance(stack, Tracked):
        raise refusal(first(x, stack).entry, "as the first factor of products in batches")


def biases(value: Tracked, x: Tensor) -> Tensor | None:
    """The rows of a table that rows of x [n, k] were given each, as their experts' biases are.

    Returns:
        None where the value is no such table, or it is not known whose rows those of x are.
    """
    steps, examples = value.steps, value.entry.ledger.examples
    if len(steps) != 1 or steps[0].func is not Tensor.__getitem__ or x.dim() != 2:
        return None
    (ids,), whose = steps[0].arguments, owners(x, examples)
    is_row = isinstance(ids, Tensor) and ids.dim() == 1 and len(ids) == len(x)
    if whose is None or not is_row or value.entry.parameter.dim() != 2:
        return None
    found = _Biases.apply(value.entry.ledger.anchor, value.plain(), value.entry, ids, whose)
    assert isinstance(found, Tensor)
    return found


class _Biases(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        chosen: Float[Tensor, "n k"],
        entry: Entry,
        ids: Int[Tensor, " n"],
        whose: Owners,
    ) -> Float[Tensor, "n k"]:
        ctx.entry, ctx.ids, ctx.owners = entry, ids, whose
        return chosen.view_as(chosen)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        count = len(ctx.entry.parameter)
        each = Owners(ctx.owners.whose * count + ctx.ids, ctx.owners.examples * count)
        found = each.sums(outer[0], ctx.entry.ledger.dtype)
        ctx.entry.add_matrices([found.unflatten(0, (-1, count))])
        return None, None, None, None, None


class Run(NamedTuple):
    """The rows that one expert is given."""

    entry: Entry
    number: int
    rows: slice


def _by_runs(
    x: Float[Tensor, "n a"],
    stack: Tracked,
    is_turned: bool,
    ends: Sequence[int],
    whose: Owners | None,
) -> Float[Tensor, "n o"]:
    numbers, entry = pair(stack)
    assert entry is not None, "a stack is tracked"
    runs = [
        Run(entry.part(number), number, slice(start, end))
        for number, (start, end) in enumerate(pairwise([0, *ends]))
        if end > start
    ]
    found = _Grouped.apply(entry.ledger.anchor, x, numbers, is_turned, runs, whose)
    assert isinstance(found, Tensor)
    return found


class _Grouped(torch.autograd.Function):
    """Linear layers, each of which maps some of the rows.

    A layer by itself for each would have the gradient of all rows made anew for each of them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Float[Tensor, "n a"],
        stack: Tensor,
        is_turned: bool,
        runs: list[Run],
        whose: Owners | None,
    ) -> Float[Tensor, "n o"]:
        maps = [run.entry.columns if is_turned else run.entry.rows for run in runs]
        given = [each.raw(x[run.rows]) for each, run in zip(maps, runs, strict=True)]
        ctx.save_for_backward(stack, *given)
        ctx.is_turned, ctx.runs, ctx.owners = is_turned, runs, whose
        return _products(x, stack.mT if is_turned else stack, runs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (stack, *given) = outer, ctx.saved_tensors
        for (entry, _, rows), one in zip(ctx.runs, given, strict=True):
            whose = None if ctx.owners is None else ctx.owners.part(rows)
            add_product(entry, slope[rows], one, whose, transposed=not ctx.is_turned)
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None, None
        back = _products(slope, stack if ctx.is_turned else stack.mT, ctx.runs)
        return None, back, None, None, None, None


def _products(
    x: Float[Tensor, "n a"], weights: Float[Tensor, "e a o"], runs: Sequence[Run]
) -> Float[Tensor, "n o"]:
    found = x.new_zeros(len(x), weights.shape[2])
    for _, number, rows in runs:
        torch.mm(x[rows], weights[number], out=found[rows])
    return found
