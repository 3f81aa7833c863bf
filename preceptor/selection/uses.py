"""What a tracked parameter does in each function of torch's that it may be an argument of."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.errors import ModelError
from preceptor.selection.arguments import first, ledger_of, pair
from preceptor.selection.attention import attention
from preceptor.selection.channel_norms import batch_normed, group_normed
from preceptor.selection.convolution import convolution, laid
from preceptor.selection.derived import derived
from preceptor.selection.einsum import einsum
from preceptor.selection.embedding import embedding, is_table
from preceptor.selection.experts import GROUPED, biases, grouped, in_batches, straight
from preceptor.selection.filters import is_sketched
from preceptor.selection.fused import Still, fits, fused, is_steep
from preceptor.selection.linear import linear
from preceptor.selection.norms import layer_normed, normed
from preceptor.selection.shared import each_own
from preceptor.selection.sharing import SHARED, read, reads_shared
from preceptor.selection.small import beside
from preceptor.selection.strange import Strange, changed, mixing, refusal
from preceptor.selection.tracked import Rules, Step, Tracked, Uses


def _linear(_: Any, input: Tensor, weight: Any, bias: Any = None) -> Tensor:
    ledger, own = ledger_of(input, weight, bias), first(weight, bias).entry
    if not own.meets(input, F.linear):
        raise refusal(own, "with what is the same for all examples")
    return linear(ledger, input, pair(weight), pair(bias))


def _addmm(_: Any, bias: Any, x: Tensor, weight: Any) -> Tensor:
    ledger = ledger_of(x, weight, bias)
    return linear(ledger, x, pair(weight), pair(bias), transposed=True)


def _matmul(_: Any, x: Tensor, weight: Any) -> Tensor:
    own = first(x, weight)
    own_way, is_turned = straight(own)
    matrix, entry = pair(own_way)
    if matrix.dim() != 2:
        raise refusal(own.entry, f"in a product as {matrix.dim()} axes of numbers")
    if own is x and isinstance(weight, Tensor) and weight.dim() > 2:
        return linear(own.entry.ledger, weight.mT, (matrix, entry), transposed=is_turned).mT
    return linear(ledger_of(x, weight), x, (matrix, entry), transposed=not is_turned)


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
    table, entry = pair(weight)
    if entry is None or not is_table(entry) or max_norm is not None or scale_grad_by_freq:
        raise refusal(first(weight, input).entry, "as an embedding that is more than a table")
    padding = padding_idx if padding_idx is None or padding_idx >= 0 else padding_idx + len(table)
    if reads_shared(entry, entry.examples_first(input)):
        if not entry.vocabulary:
            raise refusal(entry, "as a table that is read once for all")
        return read(weight, input, padding)
    entry.vocabulary |= not entry.is_drawn
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
    ledger, (filters, entry) = ledger_of(input, weight, bias), pair(weight)
    try:
        geometry = laid(ledger, input, filters, (stride, padding, dilation, groups))
    except ModelError as error:
        chain = first(weight, bias).entry.chain
        raise Strange(error.seen, error.why, [chain]) from error
    if entry is not None:
        entry.groups, entry.is_unbiased = groups, bias is None
        if 1 < groups < len(filters) and not is_sketched(entry):
            ledger.channels.turn_back()  # Each example's gradient of groups is made so.
    if entry is None or bias is not None or not fits(entry):
        return convolution(ledger, input, (filters, entry), pair(bias), geometry)
    still = ledger.fusions.behind(entry)
    if still is not None and is_sketched(entry) and not is_steep(still):
        still = None
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
    ledger = ledger_of(input, weight, bias)
    return layer_normed(ledger, input, normalized_shape, pair(weight), pair(bias), eps)


def _rms_norm(
    _: Any, input: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    def norm(x: Tensor, scale: Tensor | None, _: Tensor | None) -> Tensor:
        return F.rms_norm(x, normalized_shape, scale, eps)

    return normed(ledger_of(input, weight), input, norm, pair(weight), (None, None), channels=False)


def _group_norm(
    _: Any,
    input: Tensor,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    ledger = ledger_of(input, weight, bias)
    return group_normed(ledger, input, num_groups, pair(weight), pair(bias), eps)


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
    ledger = ledger_of(input, weight, bias)
    if training:
        raise mixing(first(weight, bias).entry)
    (scale, scales), (shift, shifts) = pair(weight), pair(bias)
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
    own = first(*arguments)
    place = next(i for i, value in enumerate(arguments) if value is own)
    if place == 0 and func.__name__ in _IN_PLACE:
        # A parameter itself is gone then; what was made of it is made for each example.
        raise refusal(own.entry, "as what is written to") if own.steps else changed(own.entry)
    others: Sequence[Any] = [*arguments[:place], *arguments[place + 1 :]]
    tensors = [other for other in others if isinstance(other, Tensor)]
    if not tensors:
        shifts = func.__name__ == "add" or (func.__name__ == "sub" and place == 0)
        return own.after(Step(func, others, named, place, keeps=shifts and not named))
    if len(tensors) > 1 or isinstance(tensors[0], Tracked):
        raise refusal(own.entry, "together with another parameter")
    if not own.entry.meets(tensors[0], func):
        raise refusal(own.entry, "together with what is the same for all examples")
    step = Step(func, others, named, place)
    found = biases(own, tensors[0])
    return step(beside(own.entry, each_own(own), tensors[0]) if found is None else found)


_CASTS = ("to", "float", "double", "half", "bfloat16", "type", "type_as", "contiguous")
_ELEMENTWISE = ("add", "sub", "mul", "div", "true_divide", "neg", "exp", "rsub")
_IN_PLACE = ("add_", "sub_", "mul_", "div_", "__iadd__", "__imul__", "__isub__")

_RULES: Rules = {
    F.linear: _linear,
    torch.addmm: _addmm,
    torch.matmul: _matmul,
    Tensor.matmul: _matmul,
    torch.einsum: einsum,
    torch.bmm: in_batches,
    Tensor.bmm: in_batches,
    F.embedding: _embedding,
    F.conv1d: _convolution,
    F.conv2d: _convolution,
    F.conv3d: _convolution,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.multi_head_attention_forward: attention,
    **({GROUPED: grouped} if GROUPED else {}),
    **{getattr(Tensor, name): _cast for name in _CASTS},
    **{
        getattr(Tensor, name): _elementwise for name in (*_ELEMENTWISE[:-1], *_IN_PLACE, "__rsub__")
    },
    **{getattr(torch, name): _elementwise for name in _ELEMENTWISE},
    **SHARED,
}
USES = Uses(_RULES, derived)
"""Functions that an example's gradient is known of, and what is done in any other."""
