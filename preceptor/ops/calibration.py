"""Calibration: does a model that says 80 % hit 80 times in a hundred?

All of it is numpy in float64, on finite logits or on confidences; one number an item where the
measure is a mean, so that items can be resampled afterwards.

Dimension key: *s seeds, n items, v classes, m bins that hold an item.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, ndtri

from preceptor.errors import DataError
from preceptor.ops.resampling import LEVEL, Interval

Binning = Literal["equal_mass", "equal_width"]
TEMPERATURES = (0.02, 50.0)
_NEAR = 0.01
"""How near an end of these, as a share of it, a search is said to have ended there."""

_ENDLESS = 100.0
"""An error of log T from which its limits are 0 and all there is."""


@dataclass(frozen=True)
class Reliability:
    """Mean confidence, accuracy and number of items of each bin that holds an item."""

    confidence: Float[np.ndarray, " m"]
    accuracy: Float[np.ndarray, " m"]
    count: Int[np.ndarray, " m"]


def log_probabilities(logits: Float[Any, "*s n v"]) -> Float[np.ndarray, "*s n v"]:
    """log softmax over the class axis, in float64."""
    return log_softmax(np.asarray(logits, dtype=np.float64), axis=-1)


def nll(logp: Float[np.ndarray, "*s n v"], labels: Int[Any, " n"]) -> Float[np.ndarray, "*s n"]:
    """-log p(label): one number an item, in nats.

    >>> nll(np.log([[0.5, 0.5]]), np.array([1])).round(4)
    array([0.6931])
    """
    index = np.broadcast_to(np.asarray(labels)[:, None], (*logp.shape[:-1], 1))
    return -np.take_along_axis(logp, index, axis=-1)[..., 0]


def brier(logp: Float[np.ndarray, "*s n v"], labels: Int[Any, " n"]) -> Float[np.ndarray, "*s n"]:
    """sum_v (p_v - [v = label])^2: one number an item, from 0 to 2.

    Brier (1950), equation 2: the form over all classes, which is twice the binary form.

    >>> brier(np.log([[0.5, 0.5]]), np.array([1])).round(4)
    array([0.5])
    """
    wanted = np.eye(logp.shape[-1])[np.asarray(labels)]
    return ((np.exp(logp) - wanted) ** 2).sum(axis=-1)


def reliability(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    bins: int = 15,
    binning: Binning = "equal_mass",
) -> Reliability:
    """The points of a reliability diagram.

    With "equal_mass" the edges are the confidences' quantiles: items of equal confidence stay
    together, so the order of items changes nothing, and a bin may hold more than its share. With
    "equal_width" the edges divide [0, 1]; an item on an edge belongs to the bin below it.
    """
    if len(confidence) == 0:
        raise DataError(
            "no items were given",
            "a reliability diagram is a mean over items",
            "Give at least one.",
        )
    place = _bins(confidence, bins, binning)
    count = np.bincount(place, minlength=bins)
    held = count > 0
    return Reliability(
        confidence=np.bincount(place, confidence, bins)[held] / count[held],
        accuracy=np.bincount(place, correct, bins)[held] / count[held],
        count=count[held],
    )


def _bins(
    confidence: Float[np.ndarray, " n"], bins: int, binning: Binning
) -> Int[np.ndarray, " n"]:
    grid = np.linspace(0.0, 1.0, bins + 1)
    edges = np.quantile(confidence, grid) if binning == "equal_mass" else grid
    return np.searchsorted(edges[1:-1], confidence, side="left")


def ece(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    bins: int = 15,
    binning: Binning = "equal_mass",
) -> float:
    """sum_m (n_m / n) |accuracy_m - confidence_m|, the expected calibration error.

    Naeini et al. (2015); with few items in a bin it is biased upwards, so compare it at equal n.

    >>> round(ece(np.array([0.8, 0.8]), np.array([True, False]), bins=1), 4)
    0.3
    """
    return float(ece_by_item(confidence, correct, bins=bins, binning=binning).mean())


def ece_by_item(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    bins: int = 15,
    binning: Binning = "equal_mass",
) -> Float[np.ndarray, " n"]:
    """One number an item whose mean is the calibration error: what it adds to its bin's gap.

    correct - confidence, with the sign that the whole bin's gap has. With bins held, resampling
    the numbers resamples the error.
    """
    place = _bins(confidence, bins, binning)
    gap = correct - np.asarray(confidence, dtype=np.float64)
    return gap * np.sign(np.bincount(place, gap, bins))[place]


def fit_temperature(logits: Float[Any, "n v"], labels: Int[Any, " n"]) -> float:
    """The T that makes mean -log softmax(logits / T)[label] least, on validation items.

    Guo et al. (2017), section 4.2. The loss is convex in 1 / T; T is sought in [0.02, 50]. Logits
    that are no better than chance end at 50; where every label is predicted the loss vanishes below
    some T, and one of those comes back.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)

    def loss(log_t: float) -> float:
        return float(nll(log_softmax(logits / np.exp(log_t), axis=-1), labels).mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def at_edge(temperature: float) -> bool:
    """Whether the search for a temperature ended where it was bound to, and so found none."""
    low, high = TEMPERATURES
    return temperature < (1 + _NEAR) * low or temperature > (1 - _NEAR) * high


def temperature_interval(logits: Float[Any, "n v"], labels: Int[Any, " n"]) -> Interval:
    """`fit_temperature` with its 95 % limits over items; no width where the search found none.

    log T, plus and minus 1.96 errors: the loss is not that of the true probabilities, so they are
    those of Halbert White, "Maximum likelihood estimation of misspecified models", Econometrica
    1982: sqrt(sum of squared slopes) / sum of curvatures, in 1 / T.
    """
    best = fit_temperature(logits, labels)
    if at_edge(best):
        return Interval(best, best, best)
    logits = np.asarray(logits, dtype=np.float64)
    p = np.exp(log_softmax(logits / best, axis=-1))
    mean = (p * logits).sum(axis=-1)
    curved = float(((p * logits**2).sum(axis=-1) - mean**2).sum())
    slopes = mean - np.take_along_axis(logits, np.asarray(labels)[:, None], axis=-1)[:, 0]
    # d log T = -T d(1 / T).
    error = best * float(np.sqrt((slopes**2).sum())) / max(curved, np.finfo(float).tiny)
    half = float(ndtri(0.5 + LEVEL / 2)) * min(error, _ENDLESS)
    return Interval(best, best * float(np.exp(-half)), best * float(np.exp(half)))
