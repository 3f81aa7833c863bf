"""Parameters outside of products and norms of torch's: a model's own norms, scales, positions.

Each example gets a copy of its own to be multiplied with, which costs no memory; the sum over an
example's positions is then what autograd makes of a broadcast axis anyway.

Dimension key: b examples, *s a parameter's own axes.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.selection.entry import Entry
from preceptor.selection.first_order import first_order
from preceptor.selection.owners import owners
from preceptor.selection.strange import refusal


def copies(entry: Entry) -> Float[Tensor, "b *s"]:
    """The parameter, one copy an example, each with its own gradient."""
    found = _Copies.apply(entry.ledger.anchor, entry)
    assert isinstance(found, Tensor)
    return found


class _Copies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, entry: Entry) -> Tensor:  # noqa: ARG004
        ctx.entry = entry
        return entry.parameter.expand(entry.ledger.examples, *entry.parameter.shape)

    @staticmethod
    @first_order
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.entry.add_flat(outer[0].reshape(len(outer[0]), -1))
        return None, None


def beside(entry: Entry, own: Tensor, x: Tensor) -> Tensor:
    """The copies `own` [b, *s] with axes so that they broadcast with x [b, ...] as *s would.

    Raises:
        ModelError: x has no axis of examples.
    """
    examples = entry.ledger.examples
    if entry.axis:
        return _beside_later(entry, own, x)
    whose = owners(x, examples) if x.dim() == 2 else None
    if whose is not None and own[0].numel() in (1, x.shape[1]):
        return own.flatten(1)[whose.whose]
    if own.dim() == x.dim() and x.shape[0] == examples:
        return own
    shape = list(own.shape[1:])
    while len(shape) > max(0, x.dim() - 1) and shape[0] == 1:
        shape = shape[1:]
    if x.dim() <= len(shape) or (len(x) != 1 and len(x) % examples):
        raise refusal(entry, f"together with a tensor of shape {list(x.shape)}")
    own = own.reshape(examples, *[1] * (x.dim() - 1 - len(shape)), *shape)
    if examples == 1:
        return own
    if len(x) <= examples:
        return own
    # Where positions are rows, each example's copy stands beside all of its own.
    return own.unsqueeze(1).expand(-1, len(x) // examples, *own.shape[1:]).flatten(0, 1)


def _beside_later(entry: Entry, own: Tensor, x: Tensor) -> Tensor:
    """The same where examples stand along a later axis of x."""
    shape = own.shape[1:]
    between = x.dim() - 1 - entry.axis - len(shape)
    if between < 0 or x.shape[entry.axis] != len(own):
        raise refusal(entry, f"together with a tensor of shape {list(x.shape)}")
    return own.reshape(len(own), *[1] * between, *shape)


def spread_to(entry: Entry, own: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """What `parameter.expand(sizes)` is to give, its first axis the examples'."""
    examples = entry.ledger.examples
    shape = [1] * (len(sizes) - own.dim() + 1) + list(own.shape[1:])
    if len(shape) != len(sizes) or shape[0] != 1 or sizes[0] not in (-1, examples):
        raise refusal(entry, f"as an expansion to {list(sizes)}")
    return own.reshape(examples, *shape[1:]).expand(examples, *sizes[1:])
