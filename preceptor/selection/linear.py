"""Linear layers whose backward pass sketches each example's gradient and makes no weight's.

The forward pass keeps X P_in, k numbers a row in place of the layer's input; the backward pass
contracts it with dL/dY of the same example and returns the input's gradient alone. After
Hu et al. "GraSS: Scalable Data Attribution with Gradient Sparsification and Sparse Projection",
NeurIPS 2025 (a Function without a weight's gradient), with dense signs in place of masks.

Dimension key: rows, first of them or 1 for all, *n further axes, a and o in- and outputs.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from preceptor.ops.products import product
from preceptor.selection.entry import Entry
from preceptor.selection.first_order import first_order
from preceptor.selection.ledger import Ledger
from preceptor.selection.owners import Owners, owners


def linear(
    ledger: Ledger,
    x: Float[Tensor, "first *n a"],
    weight: tuple[Tensor, Entry | None],
    bias: tuple[Tensor | None, Entry | None] = (None, None),
    *,
    transposed: bool = False,
    whose: Owners | None = None,
    once: bool = False,
) -> Float[Tensor, "rows *n o"]:
    """x @ weight.T + bias, or x @ weight + bias where the weight is `transposed`, [a, o].

    Each of weight and bias comes with its entry where its gradient counts. Rows of x are those of
    one example after another, unless it is said `whose` they are. Where all examples have the same
    ones the product is taken `once`, and what is given back is not to be written to.
    """
    if transposed and weight[1] is not None:
        weight[1].has_inputs_first = True
    if not x.numel():  # A head that is given no positions.
        return F.linear(x, _outputs_first(weight[0], transposed), bias[0])
    is_first = not (_axis(weight[1]) or _axis(bias[1]))
    if whose is None and x.dim() == 2 and is_first and not once:
        whose = owners(x, ledger.examples)
    shared = ledger.spread(x) if whose is None and is_first else x
    if not is_first and not once:  # Turned axes are copied once, and not in each product.
        shared = shared.contiguous()
    found = _Linear.apply(ledger.anchor, shared, _Call(weight, bias, transposed, whose, once))
    assert isinstance(found, Tensor)
    return found


def _axis(entry: Entry | None) -> int:
    return 0 if entry is None else entry.axis


def _outputs_first(weight: Tensor, transposed: bool) -> Float[Tensor, "o a"]:
    return weight.T if transposed else weight


class _Call(NamedTuple):
    """What stands beside x: torch goes through arguments one by one, and this is one."""

    weight: tuple[Tensor, Entry | None]
    bias: tuple[Tensor | None, Entry | None]
    transposed: bool
    whose: Owners | None
    once: bool


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, x: Tensor, call: _Call) -> Tensor:  # noqa: ARG004
        weight, bias, transposed, whose, once = call
        entry, places = weight[1], x.shape[:-1]
        if once:
            x = x.narrow(0 if entry is None else entry.axis, 0, 1)
        given = None
        if entry is not None:
            given = (entry.rows if transposed else entry.columns).raw(x)
        ctx.save_for_backward(given, weight[0])
        ctx.entries, ctx.transposed, ctx.owners = (entry, bias[1]), transposed, whose
        found = product(x, _outputs_first(weight[0], transposed), bias[0])
        if once:
            return found.expand(*places, found.shape[-1])
        if not found._is_view():
            return found
        # What it gives may be written to, as a plain layer's may.
        return torch.ops.aten._unsafe_view.default(found, found.shape)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (given, weight), (entry, of_bias) = ctx.saved_tensors, ctx.entries
        # One copy where axes were turned, or each product makes its own, and of the weight too.
        slope = outer[0].contiguous()
        if entry is not None:
            add_product(entry, slope, given, ctx.owners, transposed=ctx.transposed)
        if of_bias is not None:
            of_bias.add_flat(of_bias.sums(slope, ctx.owners))
        if not ctx.needs_input_grad[1]:
            return None, None, None
        weight = weight if weight.dtype == slope.dtype else weight.to(slope.dtype)
        inputs_first = _outputs_first(weight, not ctx.transposed)
        return None, product(slope, inputs_first), None


def add_product(
    entry: Entry, slope: Tensor, given: Tensor, whose: Owners | None, *, transposed: bool
) -> None:
    """Add what a weight's gradients are, from slopes and the sketch of what the layer was given.

    A call of its own: what it makes is gone before the input's gradient is.
    """
    own = entry.by_example((entry.columns if transposed else entry.rows).raw(slope), whose)
    if given.shape[:-1] != slope.shape[:-1]:  # The same for all.
        given = given.expand(*slope.shape[:-1], given.shape[-1])
    given = entry.by_example(given, whose)
    entry.add(*((given, own) if transposed else (own, given)))
