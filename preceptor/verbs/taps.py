"""`preceptor taps`: what an objective can read in a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from preceptor.errors import ModelError
from preceptor.models.heads import images, sight
from preceptor.models.load import load_model
from preceptor.models.shapes import Layer, layers
from preceptor.recipe.load import model_of
from preceptor.recipe.models import Model

_TOKENS = 8
_COLUMNS = ("name", "type", "output", "parameters")


@dataclass(frozen=True)
class Listing:
    """A model's modules, one row each; as text, a table."""

    rows: tuple[Layer, ...]

    def __str__(self) -> str:
        return render(self.rows)


def taps(model: str | Mapping[str, Any] | Model, shape: Sequence[int] = ()) -> Listing:
    """Every module that a pass of two images, or of two rows of tokens, calls, in that order.

    Args:
        model: what a recipe says under `model`, or what a command line says (`model_of`). A model
            of the zoo has ten classes where nothing is said.
        shape: of one image, [C, H, W]; empty for the one that the model is made for.

    >>> [row.name for row in taps("mlp").rows]
    ['', 'flatten', 'stage1', 'stage1.0', 'stage1.1', 'stage2', 'stage2.0', 'stage2.1', 'head']
    """
    said = model_of(model) if isinstance(model, str) else model
    dumped = said.model_dump(mode="json") if isinstance(said, Model) else said
    spec = {key: value for key, value in dumped.items() if value is not None}
    if shape:
        spec = {"channels": shape[0], "size": shape[-1]} | spec
    if "zoo" in spec:
        spec = {"classes": 10, "channels": 3, "size": 32} | spec
    tapped = load_model(spec)
    if tapped.causal:
        ids = torch.zeros(2, _TOKENS, dtype=torch.int64)
        return Listing(layers(tapped, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}))
    seen = sight(tapped, shape or tapped.spec.get("shape", ()))
    if seen is None:
        raise ModelError(
            f"the modules of a {type(tapped.module).__name__} were to be listed",
            "it took images of none of the usual shapes",
            "Say `channels` and `size`.",
        )
    return Listing(layers(tapped, images(tapped, seen.shape)))


def render(rows: Sequence[Layer]) -> str:
    """The rows as text in columns; the names are what `layers` in a recipe takes."""
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _cells(row: Layer) -> tuple[str, ...]:
    times = f" ({row.calls} calls)" if row.calls > 1 else ""
    shape = "x".join(map(str, row.shape)) + times
    return row.name or '""', row.type, shape, f"{row.parameters:,}"
