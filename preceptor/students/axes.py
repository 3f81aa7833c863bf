"""An architecture as axes: which of them each tensor of a model carries.

A transformer's tensors share a few axes. What is chosen along one of them is chosen in every
tensor that carries it, and then the tensors still fit one another:

    stream     the residual stream: read by some layers, written by others, d numbers a token
    heads      query heads x head size, a head after another
    groups     key-value groups x head size; as many as heads where each has its own
    size       the head size alone: gains of queries and keys, the same in every head
    neurons    the inner units of the perceptron
    rows       of a table: a vocabulary's tokens, learned positions; the first, in their order
    classes    rows of the head, likewise
    own        anything else; taken whole, and so of one length on both sides

A linear layer's weight is [out, in]. With the stream as its `in` it is a *reader*, as its `out` a
*writer*. Where a norm stands decides what may be done to the stream:

    before     between the stream and its readers (pre-norm): its gain can be folded into them, so
               the stream may be turned by any orthogonal matrix
    after      between a writer and the stream: its gain lies on the stream's own axis
    on         on the stream itself (post-norm)
    within     on queries and keys; does not touch the stream

With `after` and `on` a channel is still a channel: selecting and permuting are exact, turning is
not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Place = Literal["", "before", "after", "on", "within"]
Norm = Literal["rms", "rms+1", "layer"]
FUSED = "heads+groups+groups"
"""Queries, keys and values made by one layer."""


@dataclass(frozen=True)
class Layer:
    """One kind of layer.

    Args:
        key: what it is, the same in every family.
        name: what the family calls it, without `.weight`; {} is the block's number.
        axes: of its weight, in the order of [out, in] or [rows, stream]; a bias has the first.
        reads: the key of the norm between the stream and this reader; empty where there is none.
        place: where this norm stands; empty where this is no norm.
        transposed: the weight is stored as [in, out].
    """

    key: str
    name: str
    axes: tuple[str, ...]
    reads: str = ""
    place: Place = ""
    transposed: bool = False

    @property
    def in_block(self) -> bool:
        """Whether every block has one."""
        return "{}" in self.name

    @property
    def reader(self) -> bool:
        """Whether it takes in the stream through a matrix."""
        return len(self.axes) == 2 and self.axes[1] == "stream" and self.axes[0] != "rows"

    @property
    def writer(self) -> bool:
        """Whether it is one of the two of a block that add to the stream."""
        return self.in_block and len(self.axes) > 1 and self.axes[0] == "stream"


@dataclass(frozen=True)
class Family:
    """Architectures that are written down as one table.

    Args:
        types: what transformers' configurations call them.
        layers: the table.
        norm: RMSNorm, RMSNorm that stores its gain less one, or LayerNorm.
        rotary: positions are told by turning queries and keys.
        scaled_embedding: embeddings are multiplied by the square root of the width.
    """

    types: tuple[str, ...]
    layers: tuple[Layer, ...]
    norm: Norm
    rotary: bool = False
    scaled_embedding: bool = False

    def layer(self, key: str) -> Layer | None:
        """The layer of that key, where the family has one."""
        return next((layer for layer in self.layers if layer.key == key), None)

    @property
    def turns(self) -> bool:
        """Whether the stream may be turned: no norm lies on its own axis."""
        return not self.norms_on_stream

    @property
    def norms_on_stream(self) -> tuple[Layer, ...]:
        """The norms that stand after a writer or on the stream."""
        return tuple(layer for layer in self.layers if layer.place in ("after", "on"))


def layer(key: str, name: str, axes: str, reads: str = "", *, transposed: bool = False) -> Layer:
    """A row of a table; `axes` are words."""
    return Layer(key, name, tuple(axes.split()), reads, transposed=transposed)


def norm(key: str, name: str, place: Place, axis: str = "stream") -> Layer:
    """A norm's row of a table."""
    return Layer(key, name, (axis,), place=place)


def varied(
    layers: Iterable[Layer], *changes: Layer, without: Iterable[str] = ()
) -> tuple[Layer, ...]:
    """A table with some rows replaced, added or left out."""
    rows = {row.key: row for row in layers} | {row.key: row for row in changes}
    return tuple(row for key, row in rows.items() if key not in set(without))
