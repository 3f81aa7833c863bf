"""How like its teacher a student sees: features of the same examples, layer by layer.

Dimension key: b examples, a layers of the student, t of the teacher, k blocks of examples.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.evaluate.results import Likeness
from preceptor.models.anatomy import anatomy
from preceptor.models.dry import keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.ops.similarity import effective_rank, linear_cka, procrustes
from preceptor.types import Inputs, map_tensors

MOST_LAYERS = 6
"""Layers of each model that are compared; a deeper model's are taken evenly, the last included."""

_BLOCKS = 10


def likeness(
    student: TappedModel, teacher: TappedModel, batches: Sequence[Inputs]
) -> Likeness | None:
    """Compare stages (of transformers blocks), maps averaged over places and texts over tokens.

    None where one of the two shows neither stages nor blocks, or there are fewer than 40 examples.
    """
    sides = [_features(model, batches) for model in (student, teacher)]
    if not all(sides) or len(next(iter(sides[0].values()))) < 4 * _BLOCKS:
        return None
    ours, theirs = (list(side.values()) for side in sides)
    whole = _alignments(ours, theirs)
    count = len(ours[0])
    block = torch.arange(count) * _BLOCKS // count
    left_out = np.stack(
        [
            _alignments([x[block != k] for x in ours], [y[block != k] for y in theirs])
            for k in range(_BLOCKS)
        ]
    )
    spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    return Likeness(
        student=tuple(sides[0]),
        teacher=tuple(sides[1]),
        cka=whole,
        error=np.sqrt(spread * (_BLOCKS - 1) / _BLOCKS),
        procrustes=np.array([[procrustes(x, y).item() for y in theirs] for x in ours]),
        student_rank=np.array([effective_rank(x).item() for x in ours]),
        teacher_rank=np.array([effective_rank(y).item() for y in theirs]),
        examples=count,
    )


def _alignments(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Float[np.ndarray, "a t"]:
    return np.array([[linear_cka(x, y).item() for y in theirs] for x in ours])


def _features(model: TappedModel, batches: Sequence[Inputs]) -> dict[str, Tensor]:
    """Each layer's features [b, d], by tap."""
    two = map_tensors(batches[0], lambda tensor: tensor[:2])
    found = anatomy(model, two)
    spots = found.blocks or tuple(stage.exit for stage in found.stages)
    taps = [spots[i].tap for i in _evenly(len(spots))]
    shown = model.reading(frozenset(taps))
    rows: dict[str, list[Tensor]] = {tap: [] for tap in taps}
    with torch.no_grad(), keeping_modes(model):
        shown.eval()
        for inputs in batches:
            seen = shown(inputs).taps
            for tap in taps:
                rows[tap].append(_pooled(seen[tap].float(), inputs).cpu())
    return {tap: torch.cat(each) for tap, each in rows.items()}


def _evenly(count: int) -> list[int]:
    """At most `MOST_LAYERS` of so many, the last included.

    >>> _evenly(12), _evenly(2)
    ([1, 3, 5, 7, 9, 11], [0, 1])
    """
    shown = min(count, MOST_LAYERS)
    return [-(-(i + 1) * count // shown) - 1 for i in range(shown)]


def _pooled(features: Tensor, inputs: Inputs) -> Float[Tensor, "b d"]:
    """Maps [b, c, h, w] and tokens [b, t, d] as their means; padding is left out."""
    if features.dim() == 4:
        return features.mean(dim=(2, 3))
    if features.dim() != 3:
        return features.flatten(1)
    there = inputs.get("attention_mask") if not isinstance(inputs, Tensor) else None
    if there is None or there.shape != features.shape[:2]:
        return features.mean(dim=1)
    weight = there.to(features.dtype).unsqueeze(-1)
    return (features * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)
