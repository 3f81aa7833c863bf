"""What methods that compare layers share: named pairs, and the rows of a batch that count.

Dimension key: b examples, n examples that count, d width.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.errors import RecipeError
from preceptor.objectives.base import Layers, Objective, Pair
from preceptor.objectives.reduction import by_example
from preceptor.types import Batch, at_least_float32


def settled_pairs(objective: Objective[Any]) -> tuple[Pair, ...]:
    """The pairs of layers that a method compares, once they have names."""
    layers: Layers = getattr(objective, "layers")  # noqa: B009 (a field of concrete methods)
    if layers == "auto" or not layers:
        raise RecipeError(
            f"{objective.name} was used with layers: {layers or 'none'}",
            "it compares layers, and none has a name yet",
            "Name them as (student's module, teacher's module), or call `settled` first.",
        )
    return layers


def only_pair(objective: Objective[Any]) -> Pair:
    """The one pair of a method that reads one layer of each model."""
    pairs = settled_pairs(objective)
    if len(pairs) != 1:
        raise RecipeError(
            f"{objective.name} was given {len(pairs)} pairs of layers",
            "it compares one layer of the student with one of the teacher",
            "Name one pair, or add the method to itself with another pair.",
        )
    return pairs[0]


def rows(tap: Float[Tensor, "b *rest"], batch: Batch) -> Float[Tensor, "n *rest"]:
    """The examples that count, in float32 or better; masked ones leave before any statistic."""
    return at_least_float32(tap[by_example(batch.mask("all"))])


def flat_rows(tap: Float[Tensor, "b *rest"], batch: Batch) -> Float[Tensor, "n d"]:
    """The examples that count, each as one vector."""
    kept = rows(tap, batch)
    return kept.reshape(len(kept), math.prod(tap.shape[1:]))


def spread(values: Float[Tensor, "n *rest"], batch: Batch) -> Float[Tensor, "b *rest"]:
    """What was computed for the examples that count, in the batch's places; zero elsewhere."""
    mask = by_example(batch.mask("all"))
    whole = torch.zeros((len(mask), *values.shape[1:]), dtype=values.dtype, device=values.device)
    whole[mask] = values
    return whole
