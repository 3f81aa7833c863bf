"""Stacks of experts: each is a parameter of its own, and rows come sorted by expert."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.ops.sketching import CountSketch, Side, contracted
from preceptor.selection.arguments import first, pair
from preceptor.selection.entry import AT_ONCE, Entry
from preceptor.selection.first_order import first_order
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
    @first_order
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
        given = _sketched(
            x, [run.entry.columns if is_turned else run.entry.rows for run in runs], runs
        )
        ctx.save_for_backward(stack, given)
        ctx.is_turned, ctx.runs, ctx.owners = is_turned, runs, whose
        return _products(x, stack.mT if is_turned else stack, runs)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (stack, given), runs = outer, ctx.saved_tensors, ctx.runs
        if runs:
            maps = [run.entry.rows if ctx.is_turned else run.entry.columns for run in runs]
            own = _sketched(slope, maps, runs)
            _add(runs, *((own, given) if ctx.is_turned else (given, own)), ctx.owners)
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None, None
        back = _products(slope, stack if ctx.is_turned else stack.mT, runs)
        return None, back, None, None, None, None


def _sketched(
    x: Float[Tensor, "n a"], maps: Sequence[Side | CountSketch], runs: Sequence[Run]
) -> Float[Tensor, "n k"]:
    """Each run's rows through its own map."""
    tables = [each.table for each in maps if isinstance(each, Side) and each.table is not None]
    if not tables:
        return x
    found = x.new_empty(len(x), tables[0].shape[1])
    for table, run in zip(tables, runs, strict=True):
        torch.mm(x[run.rows], table.to(x.dtype), out=found[run.rows])
    return found


def _add(
    runs: Sequence[Run],
    left: Float[Tensor, "n kr"],
    right: Float[Tensor, "n kc"],
    whose: Owners | None,
) -> None:
    """Add what each expert's gradients are, of some experts at once."""
    entry = runs[0].entry
    examples, numbers = entry.ledger.examples, entry.rows.k * entry.columns.k
    lengths = torch.tensor([run.rows.stop - run.rows.start for run in runs], device=left.device)
    first = torch.arange(0, len(runs) * examples, examples, device=left.device)
    place = first.repeat_interleave(lengths, output_size=runs[-1].rows.stop)
    place = place if whose is None else place + whose.whose[: len(place)]
    most = place.bincount(minlength=len(runs) * examples).view(-1, examples).amax(dim=1)
    for some in _at_once(most.tolist(), max(1, AT_ONCE // (examples * numbers))):
        part = runs[some]
        rows = slice(part[0].rows.start, part[-1].rows.stop)
        each = Owners(place[rows] - some.start * examples, len(part) * examples)
        found = contracted(each.apart(left[rows]), each.apart(right[rows]))
        for run, own in zip(part, found.split(examples), strict=True):
            run.entry.add_contracted(own)


def _at_once(most: Sequence[int], count: int) -> list[slice]:
    """Runs that are taken together: at most so many, and no more zeros behind rows than rows.

    `most` is of each run how many rows the example has that has most.
    """
    found: list[slice] = []
    start = 0
    for end in range(1, len(most) + 1):
        own = most[start : end + 1]
        is_full = end - start == count or len(own) * max(own) > 2 * sum(own)
        if is_full or end == len(most):
            found.append(slice(start, end))
            start = end
    return found


def _products(
    x: Float[Tensor, "n a"], weights: Float[Tensor, "e a o"], runs: Sequence[Run]
) -> Float[Tensor, "n o"]:
    found = x.new_empty(len(x), weights.shape[2])
    for _, number, rows in runs:
        torch.mm(x[rows], weights[number], out=found[rows])
    found[runs[-1].rows.stop if runs else 0 :].zero_()
    return found
