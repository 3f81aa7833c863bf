"""What a tracked parameter does in each function of torch's that it may be an argument of."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.convolution import convolution
from preceptor.selection.embedding import embedding
from preceptor.selection.ledger import Entry, Ledger
from preceptor.selection.linear import linear
from preceptor.selection.norms import batch_normed, normed
from preceptor.selection.small import beside, copies, spread_to
from preceptor.selection.tracked import Step, Tracked, Uses, refusal


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
    return _first(*parameters).entry.ledger


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
    ledger, (matrix, entry) = _ledger(x, weight), _pair(weight)
    if matrix.dim() != 2:
        raise refusal(_first(weight).entry, f"in a product as {matrix.dim()} axes of numbers")
    return linear(ledger, x, (matrix, entry), transposed=True)


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
    ledger, geometry = _ledger(input, weight, bias), (stride, padding, dilation, groups)
    return convolution(ledger, input, _pair(weight), _pair(bias), geometry)


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
        raise refusal(_first(weight, bias).entry, "in a norm over the batch, which mixes examples")
    ledger = _ledger(input, weight, bias)
    return batch_normed(ledger, input, (running_mean, running_var, eps), _pair(weight), _pair(bias))


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
        raise refusal(own.entry, "as what is changed in place")
    others: Sequence[Any] = [*arguments[:place], *arguments[place + 1 :]]
    tensors = [other for other in others if isinstance(other, Tensor)]
    if not tensors:
        shifts = func.__name__ == "add" or (func.__name__ == "sub" and place == 0)
        return own.after(Step(func, others, named, place, keeps=shifts and not named))
    if len(tensors) > 1 or isinstance(tensors[0], Tracked):
        raise refusal(own.entry, "together with another parameter")
    step = Step(func, others, named, place)
    return step(beside(own.entry, _copies(own), tensors[0]))


def _expand(_: Any, value: Tracked, *sizes: Any) -> Tensor:
    wanted = sizes if isinstance(sizes[0], int) else tuple(sizes[0])
    return spread_to(value.entry, _copies(value), wanted)


_CASTS = ("to", "float", "double", "half", "bfloat16", "type_as", "contiguous")
_ELEMENTWISE = ("add", "sub", "mul", "div", "true_divide", "neg", "rsub")
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
    **{getattr(Tensor, name): _cast for name in _CASTS},
    **{
        getattr(Tensor, name): _elementwise for name in (*_ELEMENTWISE[:-1], *_IN_PLACE, "__rsub__")
    },
    **{getattr(torch, name): _elementwise for name in _ELEMENTWISE},
}
"""Functions that an example's gradient is known of."""
