"""Tests of differences, adjustments for many of them, and what a test could have seen.

All of it is numpy in float64; whatever draws takes a generator.

Dimension key: s seeds or items, m tests.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy import special

from preceptor.errors import DataError
from preceptor.ops.resampling import LEVEL, standard_error

POWER = 0.8


def sign_flip(
    differences: Shaped[Any, " s"], generator: np.random.Generator, draws: int = 9999
) -> float:
    """Two-sided p of a mean paired difference under random signs (Fisher's randomisation test).

    Up to 16 differences all 2^s signs are counted, so p is exact and at least 2 / 2^s; beyond, p
    is (1 + hits) / (1 + draws).

    >>> sign_flip(np.array([1.0, 2.0, 3.0]), np.random.default_rng(0))
    0.25
    """
    differences = np.asarray(differences, dtype=np.float64)
    count = len(differences)
    seen = abs(differences.sum())
    # A flip that ties with what was seen but for rounding must count as a tie.
    bar = seen - 1e-12 * np.abs(differences).sum()
    if count <= 16:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float((np.abs((1 - 2 * bits) @ differences) >= bar).mean())
    signs = generator.integers(0, 2, (draws, count)) * 2 - 1
    return float((1 + (np.abs(signs @ differences) >= bar).sum()) / (1 + draws))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p that two models are right equally often (McNemar 1947, binomial form).

    >>> mcnemar_exact(0, 6)
    0.03125
    """
    total = only_first + only_second
    if total == 0:
        return 1.0
    return float(min(1.0, 2 * special.bdtr(min(only_first, only_second), total, 0.5)))


def holm(p: Shaped[Any, " m"]) -> Float[np.ndarray, " m"]:
    """Holm's (1979) adjusted p values, in the order given.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """The same without the half of what was seen: less careful, and nearer to its level.

    M. Fagerland, S. Lydersen and P. Laake, "The McNemar test for binary matched-pairs data", BMC
    Medical Research Methodology 2013: the exact test rejects too seldom.

    >>> round(mcnemar_mid_p(0, 6), 6)
    0.015625
    """
    total = only_first + only_second
    seen = math.comb(total, only_first) / 2**total
    if only_first == only_second:
        return 1.0 - seen if total else 1.0
    return mcnemar_exact(only_first, only_second) - seen


def benjamini_hochberg(p: Shaped[Any, " m"]) -> Float[np.ndarray, " m"]:
    """Adjusted p values by which the share of false finds is kept, in the order given.

    Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", JRSS B 1995: for looking
    around; what is claimed wants `holm`.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.04, 0.04])
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)[::-1]
    stepped = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted


def not_worse(differences: Shaped[Any, " s"], margin: float) -> float:
    """One-sided p against a mean difference of -margin or less (non-inferiority, paired t).

    A large p of `sign_flip` is no evidence that two models are equally good; a small p here is,
    that the first is not worse by the margin.
    """
    differences = _enough(differences, margin)
    above = differences.mean() + margin
    error = standard_error(differences)
    if error == 0:
        return float(above <= 0)
    return float(special.stdtr(len(differences) - 1, -above / error))


def equivalent(differences: Shaped[Any, " s"], margin: float) -> float:
    """p against a mean difference of margin or more, either way: two one-sided tests (paired t).

    D. Schuirmann, "A comparison of the two one-sided tests procedure", Journal of Pharmacokinetics
    and Biopharmaceutics 1987.
    """
    differences = np.asarray(differences, dtype=np.float64)
    return max(not_worse(differences, margin), not_worse(-differences, margin))


def _enough(differences: Any, margin: float) -> Float[np.ndarray, " s"]:
    if margin <= 0 or len(differences) < 2:
        raise DataError(
            f"{len(differences)} differences and a margin of {margin}",
            "two are the fewest that have a spread, and no margin at all is an ordinary test",
            "Give the loss that would not matter, and more seeds or items.",
        )
    return np.asarray(differences, dtype=np.float64)


def detectable(error: float, *, power: float = POWER, level: float = LEVEL) -> float:
    """The least difference that a two-sided test sees with this power, from its standard error.

    >>> round(detectable(0.01), 4)
    0.028
    """
    return float((special.ndtri(0.5 + level / 2) + special.ndtri(power)) * error)


def seen_within(low: float, high: float) -> float:
    """The least difference that an interval as wide as this leaves 0 out of, four times in five.

    >>> round(seen_within(-0.0196, 0.0196), 4)
    0.028
    """
    return detectable((high - low) / 2 / float(special.ndtri(0.5 + LEVEL / 2)))


def items_needed(
    difference: float,
    between: float,
    within: tuple[float, float] = (0.0, 0.0),
    samples: tuple[int, int] = (1, 1),
    *,
    power: float = POWER,
    level: float = LEVEL,
) -> int:
    """Test items for a paired comparison of means to see a difference with this power.

    E. Miller, "Adding Error Bars to Evals", 2024, arXiv:2411.00640, equation 9.

    Args:
        difference: what is to be seen.
        between: variance over items of the difference of the two models' expected scores.
        within: each model's variance of one sampled answer, meaned over items; 0 where greedy.
        samples: answers an item of each model.
        power: how often it is to be seen.
        level: of the interval that must leave out 0.

    >>> items_needed(0.03, 1 / 9)
    969
    """
    z = float(special.ndtri(0.5 + level / 2) + special.ndtri(power))
    spread = between + sum(s / k for s, k in zip(within, samples, strict=True))
    return int(np.ceil(z**2 * spread / difference**2))
