"""Intervals of measurements over seeds and items.

The same test items are scored under every seed, and the same seeds under every arm, so seeds and
items are *crossed*: a draw takes one set of seeds and one set of items for all arms at once.
Drawing items anew for each seed would treat their luck as independent and shrink it by the number
of seeds.

All of it is numpy in float64; whatever draws takes a generator.

Dimension key: k measures, s seeds, n items, c clusters, d draws.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import special

from preceptor.errors import DataError
from preceptor.ops.clusters import numbered

DRAWS = 2000
LEVEL = 0.95
_CELLS = 4_000_000  # numbers in one slab of item counts: 32 MB


class Interval(NamedTuple):
    """An estimate between its limits."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether both limits lie on one side of 0."""
        return self.low > 0 or self.high < 0


def standard_error(values: Float[np.ndarray, " s"]) -> float:
    """Of a mean; it needs two values."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def t_interval(values: Shaped[Any, " s"], level: float = LEVEL) -> Interval:
    """The mean of one number a seed, with Student's interval; it needs two seeds.

    Given paired differences it is the paired t interval. Items count as fixed.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        raise DataError(
            f"{len(values)} seed was given", "a spread needs two", "Run more seeds, at least 3."
        )
    half = special.stdtrit(len(values) - 1, 0.5 + level / 2) * standard_error(values)
    mean = float(values.mean())
    return Interval(mean, mean - float(half), mean + float(half))


class Crossed:
    """Draws of seeds and of items that everything measured on them shares.

    A drawn mean is the mean + the deviation of resampled seed means + that of resampled item means:
    a bootstrap of the crossed random effects values = mean + seed + item + seed x item. Both kinds
    of means carry the last part; drawn as they are they would count it twice (the pigeonhole
    bootstrap of Owen 2007: three times), so item deviations are shrunk to the items' own part, the
    share 1 - MS(seed x item) / MS(item) of their variance. Seed deviations are widened by sqrt(s /
    (s - 1)) t / z at `level`, for a bootstrap of a few seeds knows neither the lost degree of
    freedom nor Student's tails: where seeds are all that varies, the percentile interval is about
    `t_interval`. With one seed only items vary.

    Where items belong together (`clusters` names what each belongs to), whole clusters are drawn.
    What is no mean over items comes as a column that stands for it: `ops.linearised`.
    """

    def __init__(
        self,
        seeds: int,
        items: int,
        generator: np.random.Generator,
        *,
        draws: int = DRAWS,
        level: float = LEVEL,
        clusters: Shaped[Any, " n"] | None = None,
    ) -> None:
        self.level = level
        self._cluster = None if clusters is None else numbered(clusters)
        self.clustered = clusters is not None
        items = items if self._cluster is None else int(self._cluster.max()) + 1
        slab = max(1, _CELLS // items)
        starts = range(0, draws, slab)
        # Small integers, for all draws of all items are kept: no item is drawn 65536 times.
        self._items = [
            _counts(generator, min(slab, draws - start), items).astype(np.uint16)
            for start in starts
        ]
        self._seeds = _counts(generator, draws, seeds)

    def summed(self, values: Shaped[Any, " n"]) -> Float[np.ndarray, " c"]:
        """What each cluster's items add up to; the items themselves where each stands alone."""
        if self._cluster is None:
            return np.asarray(values, dtype=np.float64)
        return np.bincount(self._cluster, weights=np.asarray(values, dtype=np.float64))

    def means(self, values: Shaped[Any, "k s n"]) -> Float[np.ndarray, "d k"]:
        """Drawn means of k measures, of all seeds or of one that is shared by them."""
        values = np.asarray(values, dtype=np.float64)
        if self._cluster is not None:
            values = _of_clusters(values, self._cluster)
        _, seeds, items = values.shape
        mean = values.mean(axis=(1, 2))
        of_items = ((values.mean(axis=1).T - mean) * _own_share(values)) / items  # [n, k]
        drawn = mean + np.concatenate([slab.astype(np.float64) @ of_items for slab in self._items])
        if seeds > 1:
            of_seeds = values.mean(axis=2).T - mean  # [s, k]
            drawn += _widening(seeds, self.level) * (self._seeds @ of_seeds / seeds)
        return drawn


def _of_clusters(
    values: Float[np.ndarray, "k s n"], cluster: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "k s c"]:
    """Columns of the same means: what each cluster adds, for clusters may be of any size."""
    mean, count = values.mean(axis=2, keepdims=True), int(cluster.max()) + 1
    member = np.eye(count)[cluster] * (count / values.shape[2])  # [n, c]
    return mean + (values - mean) @ member


def _own_share(values: Float[np.ndarray, "k s n"]) -> Float[np.ndarray, " k"]:
    """How far item means deviate by the items themselves, 0 to 1, by two-way mean squares."""
    measures, seeds, items = values.shape
    if seeds == 1 or items == 1:
        return np.ones(measures)
    of_items, of_seeds = values.mean(axis=1, keepdims=True), values.mean(axis=2, keepdims=True)
    between = seeds * of_items.var(axis=(1, 2)) * items / (items - 1)
    rest = values - of_items - of_seeds + values.mean(axis=(1, 2), keepdims=True)
    within = (rest**2).sum(axis=(1, 2)) / ((seeds - 1) * (items - 1))
    share = 1 - np.divide(within, between, out=np.ones(measures), where=between > 0)
    return np.sqrt(np.maximum(0.0, share))


def _counts(generator: np.random.Generator, draws: int, size: int) -> Int[np.ndarray, "d n"]:
    picked = generator.integers(0, size, (draws, size)) + size * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=draws * size).reshape(draws, size)


def _widening(seeds: int, level: float) -> float:
    tail = 0.5 + level / 2
    student = special.stdtrit(seeds - 1, tail)
    return float(np.sqrt(seeds / (seeds - 1)) * student / special.ndtri(tail))


def percentile(estimate: float, drawn: Shaped[Any, " d"], level: float = LEVEL) -> Interval:
    """An estimate with the percentile interval of its draws."""
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(estimate), float(low), float(high))


def bca(
    estimate: float,
    drawn: Shaped[Any, " d"],
    left_out: Shaped[Any, " n"],
    level: float = LEVEL,
) -> Interval:
    """An estimate with the bias-corrected and accelerated interval of its draws.

    `left_out` is the measure with each unit left out once, from which the acceleration comes: B.
    Efron, "Better bootstrap confidence intervals", JASA 1987. The percentile interval where every
    draw lies on one side of the estimate.
    """
    drawn = np.asarray(drawn, dtype=np.float64)
    below = ((drawn < estimate).mean() + (drawn <= estimate).mean()) / 2
    if not 0 < below < 1:
        return percentile(estimate, drawn, level)
    influence = np.mean(left_out) - np.asarray(left_out, dtype=np.float64)
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    bias = special.ndtri(below)
    shifted = bias + special.ndtri([0.5 - level / 2, 0.5 + level / 2])
    shares = special.ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(drawn, shares)
    return Interval(float(estimate), float(low), float(high))


def paired_bootstrap(
    first: Shaped[Any, "s n"],
    second: Shaped[Any, "s n"],
    generator: np.random.Generator,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """mean(first - second) over seeds and items, both resampled, the same draw for both sides."""
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    seeds, items = difference.shape
    crossed = Crossed(seeds, items, generator, draws=draws, level=level)
    return percentile(float(difference.mean()), crossed.means(difference[None])[:, 0], level)


def ratio_interval(
    numerator: Shaped[Any, " d"],
    denominator: Shaped[Any, " d"],
    estimate: tuple[float, float],
    level: float = LEVEL,
) -> Interval | str:
    """A ratio of two measures with the percentile interval of its draws, or why there is none.

    Both must come from the same draws. Where the denominator's interval holds 0, the ratio's has
    no bounds, and the answer is a sentence.
    """
    below = percentile(estimate[1], denominator, level)
    if not below.excludes_zero or estimate[1] == 0:
        return (
            f"the denominator, {below.estimate:.4g}, is not told from 0 "
            f"(interval {below.low:.4g} to {below.high:.4g}), so no ratio to it means anything"
        )
    # A draw on the far side of 0 (rarer than half the level's rest) would turn the ratio's sign:
    # it stands at the side where the denominator vanishes.
    same_side = np.sign(denominator) == np.sign(estimate[1])
    vanishing = np.where(np.asarray(numerator) * np.sign(estimate[1]) >= 0, np.inf, -np.inf)
    divisor = np.where(same_side, denominator, 1.0)
    drawn = np.where(same_side, np.asarray(numerator) / divisor, vanishing)
    limits = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2], method="nearest")
    if not np.isfinite(limits).all():
        return "the denominator comes too close to 0 in the draws, so the ratio has no interval"
    return Interval(estimate[0] / estimate[1], float(limits[0]), float(limits[1]))
