"""Attention as torch's own layers have it: one function that is handed all parameters whole.

`nn.MultiheadAttention` gives it positions first. Here it is written out with examples first, and
a product that takes some rows of a packed weight adds to the gradient of these.

Dimension key: n sequences, as many of one example after another; b examples; l positions that ask,
s that are asked; e numbers of each, k and v of those that are asked; h heads of d = e / h numbers;
i and o numbers before and behind a product, r rows of its whole weight; *m further axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.arguments import pair
from preceptor.selection.derived import Derived, each
from preceptor.selection.entry import Entry
from preceptor.selection.first_order import first_order
from preceptor.selection.ledger import Ledger
from preceptor.selection.shared import each_own
from preceptor.selection.strange import refusal
from preceptor.selection.tracked import Tracked

_Masked = Float[Tensor, "*m s"] | Bool[Tensor, "*m s"] | None
_Answer = tuple[Float[Tensor, "l *n e"], Float[Tensor, "*m s"] | None]


def attention(_: Any, *arguments: Any, **named: Any) -> _Answer:
    """What `F.multi_head_attention_forward` gives of these arguments.

    Raises:
        Strange: it is handed other than parameters, and tensors with sequences of each example; or
            keys and values that it does not project; or it has dropout.
    """
    call = _Call(*arguments, **named)
    call.expect_known()
    return call()


@final
@dataclass(frozen=True)
class _Call:
    """Its arguments, in their order."""

    query: Float[Tensor, "l *n e"]
    key: Float[Tensor, "s *n k"]
    value: Float[Tensor, "s *n v"]
    embed_dim_to_check: int
    num_heads: int
    in_proj_weight: Any
    in_proj_bias: Any
    bias_k: Any
    bias_v: Any
    add_zero_attn: bool
    dropout_p: float
    out_proj_weight: Any
    out_proj_bias: Any
    training: bool = True
    key_padding_mask: _Masked = None
    need_weights: bool = True
    attn_mask: Any = None
    use_separate_proj_weight: bool = False
    q_proj_weight: Any = None
    k_proj_weight: Any = None
    v_proj_weight: Any = None
    static_k: Tensor | None = None
    static_v: Tensor | None = None
    average_attn_weights: bool = True
    is_causal: bool = False

    @property
    def _parameters(self) -> tuple[Any, ...]:
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weights = (self.in_proj_weight, *separate, self.out_proj_weight)
        return (*weights, self.in_proj_bias, self.out_proj_bias, self.bias_k, self.bias_v)

    @property
    def _ledger(self) -> Ledger:
        return next(x for x in self._parameters if isinstance(x, Tracked)).entry.ledger

    def expect_known(self) -> None:
        """Raise where which example's gradient is which is not known.

        Raises:
            Strange: it is not.
        """
        given = (self.query, self.key, self.value, self.key_padding_mask)
        own = next(x for x in (*self._parameters, *given) if isinstance(x, Tracked)).entry
        for x in (*self._parameters, self.attn_mask):
            if isinstance(x, Tracked):
                x.entry.seen()
        if any(isinstance(x, Tracked | Derived) for x in given):
            raise refusal(own, "as what attention is given")
        if any(not _is_parameter(x) for x in self._parameters):
            raise refusal(own, "in attention together with what is no parameter")
        if self.static_k is not None or self.static_v is not None:
            raise refusal(own, "in attention with keys or values that it does not project")
        if self.training and self.dropout_p > 0.0:
            raise refusal(own, "in attention with dropout")
        sequences = self.query.shape[1] if self.query.dim() == 3 else 1
        if sequences % own.ledger.examples:
            raise refusal(own, f"in attention of {sequences} sequences for all examples")

    def __call__(self) -> _Answer:
        """What the function gives."""
        q, k, v = self._heads()
        if self.need_weights:
            weights = _weights(q, k, self._added(q, k))
            found = weights @ v
        else:
            # Torch's own takes no mask either where it is told of the order and of nothing else.
            is_causal = self.is_causal and self.key_padding_mask is None
            added = None if is_causal else self._added(q, k)
            weights = None
            found = F.scaled_dot_product_attention(q, k, v, added, is_causal=is_causal)
        last = _Rows.of(self.out_proj_weight, self.out_proj_bias)
        found = _projected(self._ledger, found.transpose(1, 2).flatten(2), last).transpose(0, 1)
        # It lies as torch's own does, or as it was given: whoever views it as that may do so.
        found = found.contiguous() if self.query.is_contiguous() else found
        if weights is not None and self.average_attn_weights:
            weights = weights.mean(dim=1)
        if self.query.dim() == 3:
            return found, weights
        return found.squeeze(1), None if weights is None else weights.squeeze(0)

    def _heads(self) -> list[Float[Tensor, "n h _ d"]]:
        """Queries, keys and values."""
        q, k, v = self._separate() if self.use_separate_proj_weight else self._packed()
        if self.bias_k is not None:
            k, v = _appended(k, self.bias_k), _appended(v, self.bias_v)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        return [x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v)]

    def _packed(self) -> list[Float[Tensor, "n _ e"]]:
        """Projections by parts of one weight; what is given twice in turn is projected once."""
        given, wide = (self.query, self.key, self.value), self.embed_dim_to_check
        found: list[Tensor] = []
        for _, run in groupby(range(3), key=lambda i: id(given[i])):
            turn = list(run)
            part = slice(turn[0] * wide, (turn[-1] + 1) * wide)
            rows = _Rows.of(self.in_proj_weight, self.in_proj_bias, part, part)
            x = _sequences(given[turn[0]])
            found += _projected(self._ledger, x, rows).split(wide, dim=-1)
        return found

    def _separate(self) -> list[Float[Tensor, "n _ e"]]:
        """Projections by weights of their own, whose biases are one all the same."""
        given, wide = (self.query, self.key, self.value), self.embed_dim_to_check
        weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        found: list[Tensor] = []
        for turn, (x, weight) in enumerate(zip(given, weights, strict=True)):
            numbers = slice(turn * wide, (turn + 1) * wide)
            rows = _Rows.of(weight, self.in_proj_bias, numbers=numbers)
            found.append(_projected(self._ledger, _sequences(x), rows))
        return found

    def _added(
        self, q: Float[Tensor, "n h l d"], k: Float[Tensor, "n h s d"]
    ) -> Float[Tensor, "#n #h #l s"] | None:
        """What masks add to the scores."""
        found = None
        if self.attn_mask is not None:
            found = _numbers(_by_heads(self.attn_mask, q.shape[:2]), q)
        if self.key_padding_mask is not None:
            padding = _numbers(self.key_padding_mask, q).view(len(q), 1, 1, -1)
            found = padding if found is None else found + padding
        # What was put behind the keys is never masked.
        return None if found is None else _padded(found, slice(found.shape[3]), k.shape[2])


def _is_parameter(x: Any) -> bool:
    """Whether its gradient is noticed, or none counts."""
    return x is None or isinstance(x, Tracked) or (not isinstance(x, Derived) and x.grad_fn is None)


def _sequences(x: Float[Tensor, "l *n e"]) -> Float[Tensor, "n l e"]:
    """With those of one example after another first, laid out once and not in each product."""
    return (x.transpose(0, 1) if x.dim() == 3 else x.unsqueeze(0)).contiguous()


def _weights(
    q: Float[Tensor, "n h l d"],
    k: Float[Tensor, "n h s d"],
    added: Float[Tensor, "#n #h #l s"] | None,
) -> Float[Tensor, "n h l s"]:
    scores = q * q.shape[-1] ** -0.5 @ k.mT
    return (scores if added is None else scores + added).softmax(dim=-1)


def _numbers(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as what is added; true is what is not to be seen."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))


def _by_heads(mask: Any, heads: Sequence[int]) -> Tensor:
    """One for all, one for each sequence and head, or one that is learned, by those axes.

    Raises:
        Strange: one example alone needs no rule for one that is learned.
    """
    if not isinstance(mask, Tracked | Derived):
        return mask.unflatten(0, tuple(heads)) if mask.dim() == 3 else mask[None, None]
    entry = mask.entry if isinstance(mask, Tracked) else mask.entries[0]
    if mask.dim() != 2:
        raise refusal(entry, "as a mask of each head")
    return _of_sequences(each(mask), heads[0]).unsqueeze(1)


def _of_sequences(own: Float[Tensor, "b *m"], sequences: int) -> Float[Tensor, "n *m"]:
    """Each example's copy beside all of its sequences."""
    return own if len(own) == sequences else own.repeat_interleave(sequences // len(own), dim=0)


def _appended(x: Float[Tensor, "n s e"], bias: Any) -> Float[Tensor, "n s+1 e"]:
    """One more position, which is a parameter [1, 1, e]."""
    own = (
        each_own(bias) if isinstance(bias, Tracked) else bias.unsqueeze(0).expand(len(x), 1, 1, -1)
    )
    return torch.cat([x, _of_sequences(own.flatten(1, 2), len(x))], dim=1)


@final
class _Rows(NamedTuple):
    """Rows of a weight, and the numbers of a bias that belong to them.

    Attributes:
        weight, bias: all of it, and its entry where its gradient counts.
        rows, numbers: which.
    """

    weight: tuple[Float[Tensor, "r i"], Entry | None]
    bias: tuple[Float[Tensor, " _"] | None, Entry | None]
    rows: slice
    numbers: slice

    @classmethod
    def of(
        cls, weight: Any, bias: Any, rows: slice = slice(None), numbers: slice = slice(None)
    ) -> "_Rows":
        """Those of parameters."""
        return cls(pair(weight), pair(bias), rows, numbers)


def _projected(ledger: Ledger, x: Float[Tensor, "n l i"], rows: _Rows) -> Float[Tensor, "n l o"]:
    """x @ weight.T + bias, of the rows alone."""
    found = _Projected.apply(ledger.anchor, x, rows, ledger)
    assert isinstance(found, Tensor)
    return found


class _Projected(torch.autograd.Function):
    """As a linear layer's (`linear.py`), whose examples may stand elsewhere."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 (what wants a gradient)
        x: Tensor,
        rows: _Rows,
        ledger: Ledger,
    ) -> Tensor:
        (weight, entry), (bias, _) = rows.weight, rows.bias
        ctx.save_for_backward(None if entry is None else entry.columns.raw(x), weight)
        ctx.rows, ctx.ledger = rows, ledger
        found = F.linear(x, weight[rows.rows], None if bias is None else bias[rows.numbers])
        # What it gives may be written to, as a plain layer's may.
        return torch.ops.aten._unsafe_view.default(found, found.shape)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (given, weight), rows, b = ctx.saved_tensors, ctx.rows, ctx.ledger.examples
        (_, entry), (bias, of_bias) = rows.weight, rows.bias
        slope = outer[0].contiguous()
        if entry is not None:
            own = entry.rows.raw(_padded(slope, rows.rows, len(weight)))
            entry.add(own.reshape(b, -1, own.shape[-1]), given.reshape(b, -1, given.shape[-1]))
        if of_bias is not None:
            sums = slope.reshape(b, -1, slope.shape[-1]).sum(dim=1, dtype=ctx.ledger.dtype)
            of_bias.add_flat(_padded(sums, rows.numbers, len(bias)))
        if not ctx.needs_input_grad[1]:
            return None, None, None, None
        return None, slope @ weight[rows.rows].to(slope.dtype), None, None


def _padded(x: Float[Tensor, "*m o"], part: slice, whole: int) -> Float[Tensor, "*m r"]:
    """Zeros around a part of so many numbers."""
    start, stop, _ = part.indices(whole)
    return x if stop - start == whole else F.pad(x, (start, whole - stop))
