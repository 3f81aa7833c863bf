"""How sure a language model is of each next token, and how often the likeliest one stands there.

Dimension key: n rows, t positions, m bins.
"""

from collections.abc import Iterable
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from preceptor.evaluate.report import ReliabilityCurve
from preceptor.ops import calibration
from preceptor.ops.linearised import ratio

BINS = 10
"""Of a reliability curve; the calibration error has the 15 of `calibration.ece`."""


@final
class Confidences:
    """Every scored position's largest probability and whether its token stood there.

    A position takes 13 bytes while they are gathered; what is kept is a number a row and `BINS`
    bins.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._row: list[Int[np.ndarray, " t"]] = []
        self._sure: list[Float[np.ndarray, " t"]] = []
        self._hit: list[Bool[np.ndarray, " t"]] = []

    def add(
        self,
        row: Int[np.ndarray, " t"],
        confidence: Float[np.ndarray, " t"],
        hit: Bool[np.ndarray, " t"],
    ) -> None:
        """Some positions: the row that each is of, from 0."""
        self._row.append(row)
        self._sure.append(confidence.astype(np.float32))
        self._hit.append(hit)

    def error_by_row(self) -> Float[np.ndarray, " n"]:
        """The calibration error of all positions, as one number a row to be resampled by rows.

        Its mean is `calibration.ece` of all positions, in 15 bins of equal mass. With bins held,
        drawing rows anew draws the error anew.
        """
        row, sure, hit = map(np.concatenate, (self._row, self._sure, self._hit))
        each = calibration.ece_by_item(sure, hit)
        counts = np.bincount(row, minlength=self._rows)
        return ratio(np.bincount(row, each, self._rows), counts.astype(np.float64))

    def bins(self) -> Float[np.ndarray, "m 3"]:
        """Sums of confidence and of hits, and positions, in `BINS` bins of equal mass."""
        sure, hit = map(np.concatenate, (self._sure, self._hit))
        found = calibration.reliability(sure, hit, bins=BINS)
        sums = found.confidence * found.count, found.accuracy * found.count, found.count
        held = np.stack(sums, axis=1)
        # Ties leave bins empty: they are the last here, so that all seeds have as many.
        return np.pad(held, ((0, BINS - len(held)), (0, 0)))


def pooled(arm: str, seeds: Iterable[Float[np.ndarray, "m 3"]]) -> ReliabilityCurve:
    """An arm's curve: the bins of each seed, from its least sure positions on, put together."""
    confidence, hits, count = sum(seeds, np.zeros((BINS, 3))).T
    held = count > 0
    return ReliabilityCurve(
        arm=arm,
        confidence=tuple((confidence[held] / count[held]).tolist()),
        accuracy=tuple((hits[held] / count[held]).tolist()),
        count=tuple(count[held].astype(int).tolist()),
    )
