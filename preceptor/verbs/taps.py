"""`preceptor taps`: what an objective can read in a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preceptor.models.heads import images
from preceptor.models.load import load_model
from preceptor.models.shapes import Layer, layers

_COLUMNS = ("name", "type", "output", "parameters")


def taps(model: str | Mapping[str, Any], shape: Sequence[int]) -> tuple[Layer, ...]:
    """Every module that a pass of images of a shape [C, H, W] calls, in the order of the calls.

    Args:
        model: what a recipe says under `model`; or in short the name of a model of the zoo (with
            ten classes), a folder, or an import path `package.module:function`.
        shape: of one image. The listed shapes are those of a batch of two.

    >>> [row.name for row in taps("mlp", (1, 8, 8))]
    ['', 'flatten', 'stage1', 'stage1.0', 'stage1.1', 'stage2', 'stage2.0', 'stage2.1', 'head']
    """
    spec = _spelled_out(model, shape) if isinstance(model, str) else model
    tapped = load_model(spec)
    return layers(tapped, images(tapped, shape))


def render(rows: Sequence[Layer]) -> str:
    """The rows as plain text in columns; names are what `layers` in a recipe takes."""
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if cell is line[-1] else cell.ljust(width)
            for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in table
    )


def _cells(row: Layer) -> tuple[str, ...]:
    times = f" ({row.calls} calls)" if row.calls > 1 else ""
    shape = "x".join(map(str, row.shape)) + times
    return row.name or '""', row.type, shape, f"{row.parameters:,}"


def _spelled_out(name: str, shape: Sequence[int]) -> Mapping[str, Any]:
    if Path(name).is_dir():
        return {"folder": name}
    if ":" in name:
        return {"factory": name, "shape": list(shape)}
    return {"zoo": name, "classes": 10, "channels": shape[0], "size": shape[-1]}
