"""What a tracked parameter does in each function of torch's that it may be an argument of."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.errors import ModelError
from preceptor.selection.convolution import convolution, laid
from preceptor.selection.embedding import embedding
from preceptor.selection.entry import Entry
from preceptor.selection.fused import Still, fits, fused
from preceptor.selection.ledger import Ledger
from preceptor.selection.linear import linear
from preceptor.selection.norms import batch_normed, normed
from preceptor.selection.small import beside, copies, spread_to
from preceptor.selection.strange import Strange, changed, mixing, refusal
from preceptor.selection.tracked import Step, Tracked, Uses


def _pair(value: Any) -> tuple[Any, Entry | None]:
    """A parameter for a product: its numbers, and its entry where its gradient counts."""
    if not isinstance(value, Tracked):
        return value, None
    if not all(step.keeps for step in value.steps):
        raise refusal(value.entry, "in a product, after numbers changed its scale")
    return value.plain(), value.entry


def _first(*values: Any) -> Tracked:
    return next(value for value in values if isinstance(value, Tracked))


def _ledger(x: Any, *parameters: Any) -> Ledger:
    if isinstance(x, Tracked):
        raise refusal(x.entry, "as what a layer is given")
    entry = _first(*parameters).entry
    for each in parameters:
        if isinstance(each, Tensor) and not isinstance(each, Tracked) and each.grad_fn is not None:
            raise refusal(entry, "in a layer together with what is no parameter")
    return entry.ledger


def _copies(value: Tracked) -> Tensor:
    own = copies(value.entry)
    for step in value.steps:
        own = step(own)
    return own


def _linear(_: Any, input: Tensor, weight: Any, bias: Any = None) -> Tensor:
    return linear(_ledger(input, weight, bias), input, _pair(weight), _pair(bias))


def _addmm(_: Any, bias: Any, x: Tensor, weight: Any) -> Tensor:
    ledger = _ledger(x, weight, bias)
    return linear(ledger, x, _pair(weight), _pair(bias), transposed=True)


def _matmul(_: Any, x: Tensor, weight: Any) -> Tensor:
    own = _first(x, weight)
    straight, is_turned = _straight(own)
    matrix, entry = _pair(straight)
    if matrix.dim() != 2:
        raise refusal(own.entry, f"in a product as {matrix.dim()} axes of numbers")
    if own is x and isinstance(weight, Tensor) and weight.dim() > 2:
        return linear(own.entry.ledger, weight.mT, (matrix, entry), transposed=is_turned).mT
    return linear(_ledger(x, weight), x, (matrix, entry), transposed=not is_turned)


def _straight(value: Tracked) -> tuple[Tracked, bool]:
    """A matrix, or a stack of them, as the parameter has it, and whether it was transposed."""
    turns = sum(step.func is _TURN for step in value.steps)
    found = value.after(Step(_TURN, (-2, -1))) if turns % 2 else value
    found.steps = tuple(step for step in value.steps if step.func is not _TURN)
    return found, turns % 2 == 1


def _embedding(
    _: Any,
    input: Tensor,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    del norm_type, sparse  # Of the norm that is not bounded; of a gradient that is not made.
    table, entry = _pair(weight)
    if entry is None or not entry.vocabulary or max_norm is not None or scale_grad_by_freq:
        raise refusal(_first(weight, input).entry, "as an embedding that is more than a table")
    padding = padding_idx if padding_idx is None or padding_idx >= 0 else padding_idx + len(table)
    return embedding(input, table, entry, padding)


def _convolution(
    _: Any,
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    ledger, (filters, entry) = _ledger(input, weight, bias), _pair(weight)
    try:
        geometry = laid(ledger, input, filters, (stride, padding, dilation, groups))
    except ModelError as error:
        chain = _first(weight, bias).entry.chain
        raise Strange(error.seen, error.why, [chain]) from error
    if entry is None or bias is not None or not fits(entry, geometry):
        return convolution(ledger, input, (filters, entry), _pair(bias), geometry)
    still = ledger.fusions.behind(entry)
    if still is None:
        found = convolution(ledger, input, (filters, entry), (None, None), geometry)
    else:
        found = fused(input, filters, entry, still, geometry)
    ledger.fusions.gave(entry, found, is_one=still is not None)
    return found


def _layer_norm(
    _: Any,
    input: Tensor,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    def norm(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        return F.layer_norm(x, normalized_shape, scale, shift, eps)

    ledger = _ledger(input, weight, bias)
    return normed(ledger, input, norm, _pair(weight), _pair(bias), channels=False)


def _rms_norm(
    _: Any, input: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    def norm(x: Tensor, scale: Tensor | None, _: Tensor | None) -> Tensor:
        return F.rms_norm(x, normalized_shape, scale, eps)

    return normed(_ledger(input, weight), input, norm, _pair(weight), (None, None), channels=False)


def _group_norm(
    _: Any,
    input: Tensor,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    def norm(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        return F.group_norm(x, num_groups, scale, shift, eps)

    ledger = _ledger(input, weight, bias)
    return normed(ledger, input, norm, _pair(weight), _pair(bias), channels=True)


def _batch_norm(
    _: Any,
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    del momentum  # Of statistics that stand still.
    if training:
        raise mixing(_first(weight, bias).entry)
    ledger, (scale, scales), (shift, shifts) = (
        _ledger(input, weight, bias),
        _pair(weight),
        _pair(bias),
    )
    if scales is not None and shifts is not None:
        still = Still(running_mean, running_var, eps, (scale, scales), (shift, shifts))
        if ledger.fusions.takes(input, still):
            return input
    statistics = (running_mean, running_var, eps)
    return batch_normed(ledger, input, statistics, (scale, scales), (shift, shifts))


def _cast(func: Any, value: Any, *rest: Any, **named: Any) -> Any:
    others = [other.plain() if isinstance(other, Tracked) else other for other in rest]
    if not isinstance(value, Tracked):
        return func(value, *others, **named)
    return value.after(Step(func, others, named, keeps=True))


def _elementwise(func: Any, *arguments: Any, **named: Any) -> Any:
    """With numbers, one more step; with a tensor, one copy an example."""
    own = _first(*arguments)
    place = next(i for i, value in enumerate(arguments) if value is own)
    if place == 0 and func.__name__ in _IN_PLACE:
        raise changed(own.entry)
    others: Sequence[Any] = [*arguments[:place], *arguments[place + 1 :]]
    tensors = [other for other in others if isinstance(other, Tensor)]
    if not tensors:
        shifts = func.__name__ == "add" or (func.__name__ == "sub" and place == 0)
        return own.after(Step(func, others, named, place, keeps=shifts and not named))
    if len(tensors) > 1 or isinstance(tensors[0], Tracked):
        raise refusal(own.entry, "together with another parameter")
    step = Step(func, others, named, place)
    return step(beside(own.entry, _copies(own), tensors[0]))


def _part(_: Any, value: Tracked, index: Any) -> Tracked:
    """One of a stack of experts: a parameter of its own, where all rows are one example's."""
    own = value.entry
    is_number = isinstance(index, int) or (isinstance(index, Tensor) and index.dim() == 0)
    if not is_number or isinstance(index, bool) or own.ledger.examples > 1 or not own.has_parts:
        raise refusal(own, "in `__getitem__`")
    part = Tracked.of(value.plain()[index], own.part(int(index)), value.uses)
    part.steps = value.steps
    return part


def _turned(_: Any, value: Tracked, *axes: int) -> Tracked:
    """A matrix, or a stack of them, transposed; its size by `.T`, without axes."""
    count = value.dim()
    last = {axis % count for axis in axes} == {count - 2, count - 1} if axes else count == 2
    if not last or count not in (2, 3):
        raise refusal(value.entry, "transposed")
    return value.after(Step(_TURN, (-2, -1)))


def _grouped(
    _: Any,
    input: Tensor,
    mat_b: Tracked,
    offs: Tensor | None = None,
    bias: Any = None,
    out_dtype: Any = None,
) -> Tensor:
    """Each expert's rows stand together, and end where `offs` says."""
    entry, (stack, is_turned) = mat_b.entry, _straight(mat_b)
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


def _expand(_: Any, value: Tracked, *sizes: Any) -> Tensor:
    wanted = sizes if isinstance(sizes[0], int) else tuple(sizes[0])
    return spread_to(value.entry, _copies(value), wanted)


_TURN = Tensor.transpose
_GROUPED = getattr(torch, "_grouped_mm", None)  # Of newer versions.
_CASTS = ("to", "float", "double", "half", "bfloat16", "type", "type_as", "contiguous")
_ELEMENTWISE = ("add", "sub", "mul", "div", "true_divide", "neg", "exp", "rsub")
_IN_PLACE = ("add_", "sub_", "mul_", "div_", "__iadd__", "__imul__", "__isub__")

USES: Uses = {
    F.linear: _linear,
    torch.addmm: _addmm,
    torch.matmul: _matmul,
    Tensor.matmul: _matmul,
    F.embedding: _embedding,
    F.conv1d: _convolution,
    F.conv2d: _convolution,
    F.conv3d: _convolution,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    Tensor.expand: _expand,
    Tensor.__getitem__: _part,
    _TURN: _turned,
    torch.transpose: _turned,
    Tensor.t: _turned,
    **{getattr(Tensor, name).__get__: _turned for name in ("T", "mT")},
    **({_GROUPED: _grouped} if _GROUPED else {}),
    **{getattr(Tensor, name): _cast for name in _CASTS},
    **{
        getattr(Tensor, name): _elementwise for name in (*_ELEMENTWISE[:-1], *_IN_PLACE, "__rsub__")
    },
    **{getattr(torch, name): _elementwise for name in _ELEMENTWISE},
}
"""Functions that an example's gradient is known of."""
