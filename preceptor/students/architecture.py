"""One model as its family's table says: which tensors there are, of which layer and block."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from preceptor.errors import ModelError
from preceptor.students.axes import FUSED, Family, Layer
from preceptor.students.families import families
from preceptor.students.weights import Weights

What = Literal["weight", "bias"]
At = tuple[str, int, What]
"""A tensor's place: its layer's key, its block (-1 outside of blocks), weight or bias."""


@dataclass(frozen=True)
class Sizes:
    """How long each axis is; `scaling` multiplies products of queries and keys."""

    stream: int
    blocks: int
    heads: int
    groups: int
    size: int
    neurons: int
    scaling: float


@dataclass(frozen=True)
class Piece:
    """A tensor by name, and what it is of."""

    name: str
    layer: Layer
    block: int
    what: What
    shape: tuple[int, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """In the order of the tensor's dimensions."""
        axes = self.layer.axes
        if self.what == "bias":
            return axes[:1]
        return axes[::-1] if self.layer.transposed else axes

    @property
    def at(self) -> At:
        """The same in a model of other sizes and names."""
        return self.layer.key, self.block, self.what

    @property
    def module(self) -> str:
        """The name of the module that holds it."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Architecture:
    """A model's table, filled in.

    Args:
        family: the table.
        sizes: the lengths of its axes.
        pieces: its tensors by their place.
        tied: the head is the embedding table.
        config: transformers' configuration.
    """

    family: Family
    sizes: Sizes
    pieces: Mapping[At, Piece]
    tied: bool
    config: Any

    def piece(self, key: str, block: int = -1, what: What = "weight") -> Piece | None:
        """The tensor at a place, or nothing."""
        return self.pieces.get((key, block, what))

    def module(self, key: str, block: int = -1) -> str:
        """The name of the module of a layer that is there."""
        found = self.piece(key, block) or self.piece(key, block, "bias")
        assert found is not None, f"there is no {key} in block {block}"
        return found.module

    @property
    def block_names(self) -> tuple[str, ...]:
        """The modules of the blocks, in order."""
        pattern = next(row.name for row in self.family.layers if row.in_block)
        inside = pattern.partition("{}")[2]
        layer = next(row for row in self.family.layers if row.name == pattern)
        places = range(self.sizes.blocks)
        return tuple(self.module(layer.key, n).removesuffix(inside) for n in places)


def described(weights: Weights) -> Architecture:
    """The architecture of a source of weights.

    Errors:
        ModelError: the family is not known, or its tensors are called otherwise.
    """
    config = weights.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    shapes = weights.shapes()
    tables = families(str(config.model_type))
    for family in tables:
        pieces = _pieces(family, shapes)
        if pieces:
            return _filled(family, pieces, config)
    raise ModelError(
        f"the tensors of a {config.model_type} model were looked for by name",
        f"there is no {tables[0].layers[0].name!r} beside the blocks that belong to it",
        "Use weights as transformers saves them, without adapters.",
    )


def _filled(family: Family, pieces: dict[At, Piece], config: Any) -> Architecture:
    """With its lengths, and its tied head under the embedding's name."""
    head, embedding = family.layer("head"), pieces.get(("embedding", -1, "weight"))
    tied = bool(getattr(config, "tie_word_embeddings", False)) and embedding is not None
    # A model without a head has nothing that could be tied.
    tied = tied and head is not None and _has_head(family, pieces, config)
    if tied and head is not None and embedding is not None:
        place: At = ("head", -1, "weight")
        pieces[place] = Piece(embedding.name, head, -1, "weight", embedding.shape)
    return Architecture(family, _sizes(pieces, config), pieces, tied, config)


def _has_head(family: Family, pieces: Mapping[At, Piece], config: Any) -> bool:
    if ("head", -1, "weight") in pieces:
        return True
    if family.layer("transform") is not None:
        return ("transform", -1, "weight") in pieces
    return any("LM" in str(name) for name in getattr(config, "architectures", None) or ())


def _pieces(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> dict[At, Piece]:
    """The family's tensors among all; empty where they are called otherwise."""
    first = family.layers[0].name
    roots = [n.removesuffix(f"{first}.weight") for n in shapes if _ends(n, f"{first}.weight")]
    for root in sorted(roots, key=len):
        every = [
            Piece(name, row, block, what, shapes[name])
            for row in family.layers
            for block, what, name in _named(row, root, shapes)
        ]
        found = {piece.at: piece for piece in every}
        if any(row.in_block and (row.key, 0, "weight") in found for row in family.layers):
            return found
    return {}


def _ends(name: str, tail: str) -> bool:
    return name == tail or name.endswith(f".{tail}")


def _named(
    row: Layer, root: str, shapes: Mapping[str, tuple[int, ...]]
) -> list[tuple[int, What, str]]:
    """The tensors of one row of a table, in every block.

    A head stands beside the backbone and not in it, so each of the names above is tried.
    """
    parts = root.rstrip(".").split(".") if root else []
    for depth in range(len(parts), -1, -1):
        start = "".join(f"{part}." for part in parts[:depth])
        found: list[tuple[int, What, str]] = []
        block = 0
        while True:
            name = start + row.name.replace("{}", str(block))
            at = block if row.in_block else -1
            named: list[tuple[int, What, str]] = [
                (at, "weight", name),
                (at, "weight", f"{name}.weight"),
                (at, "bias", f"{name}.bias"),
            ]
            here = [place for place in named if place[2] in shapes]
            found += here
            block += 1
            if not here or not row.in_block:
                break
        if found:
            return found
    return []


def _sizes(pieces: Mapping[At, Piece], config: Any) -> Sizes:
    """Lengths that shapes tell are read from them, the rest from the configuration."""

    def said(*names: str) -> Any:
        return next((getattr(config, n) for n in names if getattr(config, n, None)), None)

    down = pieces["down", 0, "weight"]
    stream = down.shape[down.axes.index("stream")]
    neurons = down.shape[down.axes.index("neurons")]
    out = pieces["attention out", 0, "weight"]
    heads = int(said("num_attention_heads", "n_head", "n_heads"))
    size = out.shape[out.axes.index("heads")] // heads
    key = pieces.get(("key", 0, "weight"))
    groups = heads if key is None else key.shape[key.axes.index("groups")] // size
    blocks = 1 + max(block for _, block, _ in pieces)
    scalar = said("query_pre_attn_scalar") or size
    unscaled = getattr(config, "scale_attn_weights", True) is False
    scaling = 1.0 if unscaled else 1.0 / math.sqrt(scalar)
    return Sizes(stream, blocks, heads, groups, size, neurons, scaling)


def lengths(sizes: Sizes) -> dict[str, int]:
    """Each axis's length in tensors."""
    heads, groups = sizes.heads * sizes.size, sizes.groups * sizes.size
    return {
        "stream": sizes.stream,
        "heads": heads,
        "groups": groups,
        FUSED: heads + 2 * groups,
        "size": sizes.size,
        "neurons": sizes.neurons,
    }
