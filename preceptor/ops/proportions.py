"""Intervals of rates, and of the difference of two rates on the same items."""

from typing import Any

import numpy as np
from scipy import optimize, special

from preceptor.errors import DataError
from preceptor.ops.resampling import LEVEL, Interval


def wilson(successes: int | float, n: int, level: float = LEVEL) -> Interval:
    """A rate and its Wilson (1927) score interval: it stays in [0, 1] and has width at 0 and 1.

    >>> [round(x, 4) for x in wilson(10, 10)]
    [1.0, 0.7225, 1.0]
    """
    if n < 1:
        raise DataError("a rate of no items was asked", "0 / 0 is no rate", "Give some items.")
    z = special.ndtri(0.5 + level / 2)
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return Interval(
        p, float(max(0.0, min(p, centre - half))), float(min(1.0, max(p, centre + half)))
    )


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """A rate and its exact interval, which holds the truth at least as often as it says.

    C. Clopper and E. Pearson, "The use of confidence or fiducial limits", Biometrika 1934: wider
    than Wilson's, for where a guarantee is asked.

    >>> [round(x, 4) for x in clopper_pearson(10, 10)]
    [1.0, 0.6915, 1.0]
    """
    if n < 1:
        raise DataError("a rate of no items was asked", "0 / 0 is no rate", "Give some items.")
    tail = (1 - level) / 2
    low = special.betaincinv(successes, n - successes + 1, tail) if successes else 0.0
    high = special.betaincinv(successes + 1, n - successes, 1 - tail) if successes < n else 1.0
    return Interval(successes / n, float(low), float(high))


def tango(
    only_first: int | float, only_second: int | float, n: int, level: float = LEVEL
) -> Interval:
    """How much more often the first of two models is right on the same n items: score interval.

    Limits are the differences that the score test does not reject: T. Tango, "Equivalence test and
    confidence interval for the difference in proportions for the paired-sample design", Statistics
    in Medicine 1998. It has width where the two never differ.

    Args:
        only_first: items that the first alone has right; a mean of counts may be a fraction.
        only_second: items that the second alone has right; likewise.
        n: all items.
        level: of the interval.

    >>> [round(x, 4) for x in tango(4, 3, 44)]
    [0.0227, -0.1106, 0.1587]
    """
    if not 0 <= only_first + only_second <= n or n < 1:
        raise DataError(
            f"{only_first} + {only_second} of {n} items differ",
            "they are some of the items",
            "Count the items that one model alone has right, and all items.",
        )
    z = float(special.ndtri(0.5 + level / 2))
    seen = (only_first - only_second) / n

    def above(difference: float, side: float) -> float:
        over = only_first - only_second - n * difference
        return over - side * z * np.sqrt(n * _spread(only_first, only_second, n, difference))

    # At what was seen itself the spread may be 0, and nothing would be rejected.
    step, edge = 1e-12, 1 - 1e-12
    low, high = -1.0, 1.0
    root: Any = optimize.brentq  # Its stub returns a tuple, which is that of another call.
    if above(-edge, 1.0) > 0:
        low = root(above, -edge, seen - step, args=(1.0,))
    if above(edge, -1.0) < 0:
        high = root(above, seen + step, edge, args=(-1.0,))
    return Interval(seen, min(low, seen), max(high, seen))


def _spread(only_first: float, only_second: float, n: int, difference: float) -> float:
    """An item's variance where the difference is this one, the other rate being likeliest."""
    a = 2 * n
    b = -only_first - only_second + (2 * n - only_first + only_second) * difference
    c = -only_second * difference * (1 - difference)
    alone = (np.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    return max(0.0, 2 * float(alone) + difference * (1 - difference))
