"""Loss curves: each term's mean and range over seeds, in windows of steps.

Dimension key: s seeds, w windows, k logged steps.
"""

import numpy as np
from jaxtyping import Float

from preceptor.evaluate.report import Curve
from preceptor.evaluate.results import ArmResult, Losses, RunResult

WINDOWS = 50


def loss_curves(result: RunResult) -> tuple[Curve, ...]:
    """A curve for every arm and term that was logged; seeds may have logged at other steps."""
    return tuple(
        curve
        for arm in result.everybody
        for term in dict.fromkeys(t for one in arm.seeds if one.losses for t in one.losses.terms)
        for curve in _curve(arm, term)
    )


def _curve(arm: ArmResult, term: str) -> list[Curve]:
    logged = [one.losses for one in arm.seeds if one.losses and term in one.losses.terms]
    logged = [losses for losses in logged if len(losses.steps)]
    if not logged:
        return []
    first = min(losses.steps.min() for losses in logged)
    last = max(losses.steps.max() for losses in logged)
    edges = np.linspace(first, last + 1, WINDOWS + 1)
    rows = np.stack([_windows(losses, term, edges) for losses in logged])  # [s, w]
    held = np.isfinite(rows).any(axis=0)
    rows, middle = rows[:, held], (edges[:-1] + edges[1:])[held] / 2
    return [
        Curve(
            arm=arm.name,
            term=term,
            steps=tuple(middle.tolist()),
            mean=tuple(np.nanmean(rows, axis=0).tolist()),
            low=tuple(np.nanmin(rows, axis=0).tolist()),
            high=tuple(np.nanmax(rows, axis=0).tolist()),
        )
    ]


def _windows(losses: Losses, term: str, edges: Float[np.ndarray, " e"]) -> Float[np.ndarray, " w"]:
    """The mean in each window; NaN where nothing finite was logged."""
    values = np.asarray(losses.terms[term], dtype=np.float64)
    finite = np.isfinite(values)
    place = np.searchsorted(edges, losses.steps[finite], side="right") - 1
    count = np.bincount(place, minlength=len(edges) - 1)
    total = np.bincount(place, values[finite], minlength=len(edges) - 1)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
