"""Intervals of rates, and of the difference and the ratio of two rates on the same items."""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from preceptor.errors import DataError
from preceptor.ops.resampling import LEVEL, Interval


def wilson(successes: int | float, n: int | float, level: float = LEVEL) -> Interval:
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


def luck_alone(counts: Float[np.ndarray, " s"]) -> bool:
    """Whether these counts of rare events differ no more than luck has them differ.

    R. Fisher's index of dispersion ("The significance of deviations from expectation in a Poisson
    series", Biometrics 1950): their variance over their mean, at 5 %.

    >>> luck_alone(np.array([1.0, 0.0])), luck_alone(np.array([15.0, 1.0]))
    (True, False)
    """
    free, mean = len(counts) - 1, float(counts.mean())
    if free == 0 or mean == 0:
        return True
    return float(((counts - mean) ** 2).sum()) / mean <= float(special.chdtri(free, 1 - LEVEL))


def wilson_of_spread(
    rate: float, variance: float, most: int, level: float = LEVEL, *, least: int = 1
) -> Interval:
    """Wilson's interval of a rate whose items are not independent: as many as its spread is worth.

    So many independent items as would give the rate this variance, p (1 - p) / variance, and no
    more than there are: E. Korn and B. Graubard, "Confidence intervals for proportions with small
    expected number of positive counts estimated from survey data", Survey Methodology 1998; with
    Wilson's limits, N. Dean and M. Pagano, "Evaluating confidence interval methods for binomial
    proportions in clustered surveys", Journal of Survey Statistics and Methodology 2015.

    Args:
        rate: neither 0 nor 1.
        variance: of the rate, seeds and items drawn anew; above 0.
        most: all answers, of all seeds.
        level: of the interval.
        least: what it is worth at the least. Where groups of items are independent and seeds differ
            by luck alone, that is the number of groups, however much items of one are alike: the
            spread of a hit or two, under a few seeds, would tell of far fewer.

    >>> [round(x, 4) for x in wilson_of_spread(0.9, 0.9 * 0.1 / 50, 1000)[1:]]
    [0.7864, 0.9565]
    """
    worth = max(float(least), min(rate * (1 - rate) / variance, most))
    _, low, high = wilson(rate * worth, worth, level)
    return Interval(rate, min(low, rate), max(high, rate))


def ratio_of_rates(
    only_first: int | float, only_second: int | float, both: int | float, n: int
) -> Interval:
    """The first model's rate over the second's, on the same n items: score interval.

    Limits are the ratios that the score test does not reject: J. Nam and W. Blackwelder, "Analysis
    of the ratio of marginal probabilities in a matched-pair setting", Statistics in Medicine 2002.
    It has width where the two never differ.

    Args:
        only_first: items that the first alone has right; a mean of counts may be a fraction.
        only_second: items that the second alone has right; likewise.
        both: items that both have right; with `only_second` above 0.
        n: all items.

    >>> [round(x, 4) for x in ratio_of_rates(0, 0, 20, 20)]
    [1.0, 0.8389, 1.1921]
    """
    first, second = both + only_first, both + only_second
    if not 0 < second <= n:
        raise DataError(
            f"the second is right on {second} of {n} items",
            "a ratio needs some, and no more than there are",
            "Leave the ratio out.",
        )
    z = float(special.ndtri(0.5 + LEVEL / 2))
    some = both + only_first + only_second

    def above(ratio: float, side: float) -> float:
        a = n * (1 + ratio)
        b = second * ratio**2 - (first + 2 * only_second)
        c = only_second * (1 - ratio) * some / n
        alone = (np.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        spread = max(0.0, (ratio - 1) * some / n + (1 + ratio) * float(alone))
        return first - ratio * second - side * z * np.sqrt(n * spread)

    seen = first / second
    root: Any = optimize.brentq
    low, high = 0.0, max(1.0, 2 * seen)
    if above(1e-12, 1.0) > 0:
        low = root(above, 1e-12, max(1e-12, seen * (1 - 1e-12)), args=(1.0,))
    while above(high, -1.0) > 0:
        high *= 2
    high = root(above, seen * (1 + 1e-12) + 1e-12, high, args=(-1.0,))
    return Interval(seen, min(low, seen), max(high, seen))


def beyond_chance(agreement: Interval, chance: float) -> Interval:
    """Cohen's kappa at an agreement and its limits, chance being what it is.

    (p - chance) / (1 - chance) grows with p, so limits of p are limits of kappa where chance is
    held, as J. Cohen did for the first standard error of kappa ("A coefficient of agreement for
    nominal scales", Educational and Psychological Measurement 1960).

    >>> [round(x, 3) for x in beyond_chance(wilson(10, 10), 0.5)]
    [1.0, 0.445, 1.0]
    """
    return Interval(*((each - chance) / (1 - chance) for each in agreement))


def less(first: Interval, second: Interval) -> Interval:
    """The difference of two quantities that have intervals: G. Zou and A. Donner's square-and-add.

    "Construction of confidence limits about effect measures: a general approach", Statistics in
    Medicine 2008. The two are taken as independent; where they rise and fall together it is wide.

    >>> [round(x, 4) for x in less(Interval(0.5, 0.4, 0.6), Interval(0.3, 0.3, 0.3))]
    [0.2, 0.1, 0.3]
    """
    seen = first.estimate - second.estimate
    below = np.hypot(first.estimate - first.low, second.high - second.estimate)
    above = np.hypot(first.high - first.estimate, second.estimate - second.low)
    return Interval(seen, float(seen - below), float(seen + above))
