"""Which blocks of two transformers see alike: centered kernel alignment on a few examples.

Dimension key: b examples, t tokens, n chosen tokens, d widths.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from preceptor.models.dry import undisturbed
from preceptor.models.tapped import TappedModel
from preceptor.ops.similarity import linear_cka
from preceptor.types import Inputs

MOST_TOKENS = 256
"""Tokens that are compared; the estimate has no bias however few they are."""


def similarities(
    student: TappedModel,
    teacher: TappedModel,
    taps: tuple[Sequence[str], Sequence[str]],
    inputs: Inputs,
) -> NDArray[np.float64]:
    """Alignment of each of the student's taps [B, T, D] or [B, h, T, T] with each of the teacher's.

    Padding, which the inputs' `attention_mask` names, is left out. A tap that does not vary is
    like nothing (0).
    """
    ours, theirs = (
        [_tokens(tap, inputs) for tap in _shown(model, names, inputs)]
        for model, names in zip((student, teacher), taps, strict=True)
    )
    return np.array([[linear_cka(one, other).item() for other in theirs] for one in ours]).clip(0)


def in_order(alike: NDArray[np.float64], pairs: int) -> list[tuple[int, int]]:
    """So many (row, column), both rising, whose similarities add up to the most.

    >>> in_order(np.array([[0.1, 0.9, 0.2], [0.8, 0.3, 0.4]]), 2)
    [(0, 1), (1, 2)]
    """
    rows, columns = alike.shape
    # best[k][i, j]: the most that k pairs of the first i rows and j columns come to.
    best = [np.zeros((rows + 1, columns + 1))]
    for _ in range(pairs):
        held = np.full((rows + 1, columns + 1), -np.inf)
        for i in range(1, rows + 1):
            for j in range(1, columns + 1):
                met = best[-1][i - 1, j - 1] + alike[i - 1, j - 1]
                held[i, j] = max(held[i - 1, j], held[i, j - 1], met)
        best.append(held)
    found: list[tuple[int, int]] = []
    i, j = rows, columns
    for k in range(pairs, 0, -1):
        while best[k][i, j] in (best[k][i - 1, j], best[k][i, j - 1]):
            i, j = (i - 1, j) if best[k][i, j] == best[k][i - 1, j] else (i, j - 1)
        i, j = i - 1, j - 1
        found.append((i, j))
    return found[::-1]


def _shown(model: TappedModel, taps: Sequence[str], inputs: Inputs) -> list[Tensor]:
    shown = model.reading(frozenset(taps))
    with undisturbed(shown):
        found = shown.eval()(inputs).taps
    return [found[tap] for tap in taps]


def _tokens(tap: Tensor, inputs: Inputs) -> Float[Tensor, "n d"]:
    """Evenly chosen tokens, each as one vector: its state, or whom its heads attend to."""
    if tap.ndim == 4:
        tap = tap.transpose(1, 2)
    rows = tap.flatten(2).flatten(0, 1).float()
    there = _real(inputs)
    if there is not None and there.numel() == len(rows):
        rows = rows[there.flatten()]
    return rows[np.linspace(0, len(rows) - 1, min(MOST_TOKENS, len(rows))).astype(int)]


def _real(inputs: Inputs) -> Bool[Tensor, "b t"] | None:
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    return mask.bool() if mask is not None and mask.ndim == 2 else None
