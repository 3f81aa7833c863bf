"""From scores over seeds and items to values with 95 % intervals.

Measures of items are resampled over seeds and items; what is one number a seed (a temperature) gets
Student's interval over seeds.

Dimension key: s seeds, n items, d draws.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from preceptor.evaluate.measures import range_of
from preceptor.evaluate.numerals import signed
from preceptor.evaluate.report import Difference, Measured, Undefined, Value
from preceptor.ops import hypotheses, proportions, resampling
from preceptor.ops.resampling import Crossed, Interval

_Hits = Bool[np.ndarray, "s n"]
_Good = Bool[np.ndarray, "s n"] | Float[np.ndarray, "s n"]
"""A measure by which more is better: hits, or numbers."""

WIDEST = 10.0
"""Limits of a share farther apart than this, 1,000 %, say nothing of it."""

ROUNDING = 1e-9
"""Limits nearer than this are the same."""

_NOTHING = 1e-12
"""What is nearer to 0 than this is 0, and the rest of a sum's rounding."""

FEW = 10
"""Items a seed below which what a rate counts is too rare for its bootstrap."""

_GAINS = {"bits_per_byte": "bits gained", "token_nll": "nats gained"}


def exact(number: float | int, unit: str) -> Value:
    """A number without doubt."""
    return Value(float(number), float(number), float(number), 1, unit)


def valued(interval: Interval, n: int, unit: str) -> Value:
    """An interval with its count and unit."""
    return Value(interval.estimate, interval.low, interval.high, n, unit)


def means(
    columns: Mapping[str, Float[np.ndarray, "s n"]],
    units: Mapping[str, str],
    crossed: Crossed,
) -> dict[str, Value]:
    """The mean of each column, within its unit's bounds.

    A rate of hits never has width 0; where either kind is rare, of `FEW` items a seed, it has
    Wilson's interval of as many items as its draws' spread is worth.
    """
    if not columns:
        return {}
    drawn = crossed.means(np.stack(list(columns.values())))
    values = {}
    for (name, column), draws in zip(columns.items(), drawn.T, strict=True):
        interval = _bounded(resampling.percentile(float(column.mean()), draws), units[name])
        if units[name] == "fraction" and np.isin(column, (0.0, 1.0)).all():
            interval = _rate(interval, column, draws, crossed)
        if units[name] == "difference" and np.isin(column, (-1.0, 0.0, 1.0)).all():
            interval = _gain(column > 0, column < 0, draws, crossed)
        values[name] = valued(interval, column.shape[1], units[name])
    return values


def _rate(
    interval: Interval,
    column: Float[np.ndarray, "s n"],
    drawn: Float[np.ndarray, " d"],
    crossed: Crossed,
) -> Interval:
    rate, items = interval.estimate, column.shape[1]
    one = bool((column == column[:1]).all()) and not crossed.clustered
    if one or _flat(interval):
        units = len(crossed.summed(column[0]))
        return proportions.wilson(rate * units, units)
    if min(rate, 1 - rate) * items < FEW:
        happens = column == (rate < 0.5)
        least = _worth_at_least(happens, np.ones_like(happens), crossed)
        spread = float(drawn.var())
        return proportions.wilson_of_spread(rate, spread, column.size, least=least)
    return interval


def _worth_at_least(rare: _Hits, where: _Hits, crossed: Crossed) -> int:
    """A seed's groups, or items that stand alone, where seeds differ by luck alone; otherwise 1.

    A group counts by its share of what is rare. The first hit must not widen limits that stood on
    as many groups while there was none.
    """
    asked = np.stack([crossed.summed(row) for row in where])
    seen = np.stack([crossed.summed(row) for row in rare & where])
    counts = (seen / np.maximum(asked, 1)).sum(axis=1)
    return _units(where, crossed) if proportions.luck_alone(counts) else 1


def _units(where: _Hits, crossed: Crossed) -> int:
    """The groups of a mean seed that hold one of these items, or the items that stand alone."""
    held = [np.count_nonzero(crossed.summed(row)) for row in where]
    return max(1, round(float(np.mean(held))))


def _flat(interval: Interval) -> bool:
    return interval.high - interval.low < ROUNDING


def at_least_apart(found: Value, first: Value, second: Value) -> Value:
    """The difference of two values, no narrower than their own limits leave it where few differ."""
    wide = proportions.less(_limits(first), _limits(second))
    low, high = (wide.low, wide.high) if no_width(found) else _limits(found)[1:]
    return replace(found, low=min(low, wide.low), high=max(high, wide.high))


def _limits(value: Value) -> Interval:
    assert value.low is not None
    assert value.high is not None
    return Interval(value.estimate, value.low, value.high)


def no_width(value: Value) -> bool:
    """Whether a value's limits are one number, or there are none."""
    return value.low is None or value.high is None or value.high - value.low < ROUNDING


def _bounded(interval: Interval, unit: str) -> Interval:
    """No limit lies where the measure cannot; rounding puts no estimate there either."""
    low, high = range_of(unit)
    cut = (float(np.clip(number, low, high)) for number in interval)
    return Interval(*(number if abs(number) > _NOTHING else 0.0 for number in cut))


def over_seeds(numbers: Float[np.ndarray, " s"], unit: str, why: str) -> Measured:
    """The mean of one number a seed; `why` says what is missing where one is NaN.

    Student's interval knows no bounds: it is cut where the unit's range ends.
    """
    if np.isnan(numbers).any():
        return Undefined(why)
    if len(numbers) == 1:
        return Value(float(numbers[0]), None, None, 1, unit)
    interval = resampling.t_interval(numbers)
    return valued(_bounded(interval, unit), len(numbers), unit)


def share_column(happens: _Hits, where: _Hits) -> Float[np.ndarray, "s n"] | None:
    """A column whose mean is P(happens | where), both varying with seed and item; None for never.

    The linear part of the ratio of two means: R + (happens - R where) / mean(where).
    """
    often = where.mean()
    if often == 0:
        return None
    rate = float((happens & where).mean() / often)
    return rate + ((happens & where) - rate * where) / often


def share_where(happens: _Hits, where: _Hits, crossed: Crossed, why: str) -> Measured:
    """P(happens | where), both varying with seed and item; `why` where that is never."""
    column = share_column(happens, where)
    if column is None:
        return Undefined(why)
    rate = float(column.mean())
    drawn = crossed.means(column[None])[:, 0]
    interval = resampling.percentile(rate, drawn)
    n = max(1, round(float(where.mean()) * where.shape[1]))
    if (len(column) == 1 and not crossed.clustered) or _flat(interval):
        units = _units(where, crossed)
        return valued(proportions.wilson(rate * units, units), n, "fraction")
    if 0 < min(rate, 1 - rate) * n < FEW:
        least = _worth_at_least(happens == (rate < 0.5), where, crossed)
        spread, most = float(drawn.var()), int(where.sum())
        interval = proportions.wilson_of_spread(rate, spread, most, least=least)
    return valued(_bounded(interval, "fraction"), n, "fraction")


def gap(first: _Good, second: _Good, crossed: Crossed, primary: str = "accuracy") -> Value:
    """How much better the first is than the second; of hits it never has width 0."""
    unit = _GAINS.get(primary, "difference")
    drawn = crossed.means((first.astype(float) - second)[None])[:, 0]
    return valued(_bounded(_gain(first, second, drawn, crossed), unit), first.shape[1], unit)


def gap_of_columns(
    first: Float[np.ndarray, "s n"],
    second: Float[np.ndarray, "s n"],
    crossed: Crossed,
    unit: str = "difference",
) -> Value:
    """The difference of two columns' means, within the unit's bounds."""
    difference = first - second
    drawn = crossed.means(difference[None])[:, 0]
    interval = resampling.percentile(float(difference.mean()), drawn)
    return valued(_bounded(interval, unit), first.shape[1], unit)


def difference(
    of: tuple[str, _Good],
    versus: tuple[str, _Good],
    teacher: _Good | None,
    crossed: Crossed,
    generator: np.random.Generator,
    primary: str = "accuracy",
) -> Difference:
    """Two arms compared in the primary measure, with the share of the teacher's lead regained.

    `p_holm` is the p of this difference alone until `adjusted` has seen them all. `at_least` is the
    gain's own lower limit: no other level says that a loss is ruled out which the interval holds.
    The share's draws are those of the gain, stretched until their limits are the gain's: so the
    share's limits hold 0 where the gain's do.
    """
    unit = _GAINS.get(primary, "difference")
    gained = of[1].astype(float) - versus[1]
    columns = [gained] if teacher is None else [gained, teacher.astype(float) - versus[1]]
    drawn = crossed.means(np.stack(columns))
    gain = _bounded(_gain(of[1], versus[1], drawn[:, 0], crossed), unit)
    share: Measured = Undefined("there is no teacher to come nearer to")
    if teacher is not None:
        share = _share(drawn, gain, float(columns[1].mean()), gained.shape[1], primary)
    seeds, items = gained.shape
    p = _p(of[1], versus[1], crossed, generator)
    return Difference(
        of=of[0],
        versus=versus[0],
        gain=valued(gain, items, unit),
        p=Value(p, None, None, seeds if seeds > 1 else items, "p"),
        p_holm=Value(p, None, None, seeds if seeds > 1 else items, "p"),
        smallest=_smallest(gain, items, primary),
        at_least=Value(gain.low, None, None, items, unit),
        share=share,
    )


def _gain(
    first: _Good, second: _Good, drawn: Float[np.ndarray, " d"], crossed: Crossed
) -> Interval:
    """The mean difference of two arms, of hits never without width.

    Of hits of one seed it has the score interval, good also for few items. So it has where the
    draws of several seeds have no width: that two arms never differed on n items does not show
    that they never will. It then stands on the mean seed's count of items that one arm alone has
    right, as if the seeds were one; where items belong together, each group counts once.
    """
    seen = resampling.percentile(float((first.astype(float) - second).mean()), drawn)
    alone = len(first) == 1 and not crossed.clustered
    if not (first.dtype == second.dtype == bool) or not (alone or _flat(seen)):
        return seen
    units = len(crossed.summed(first[0]))
    only_first = float((first & ~second).mean()) * units
    # Rounding makes no more of them than there are.
    only_second = min(float((second & ~first).mean()) * units, units - only_first)
    return proportions.tango(only_first, only_second, units)


def _stretched(drawn: Float[np.ndarray, " d"], to: Interval) -> Float[np.ndarray, " d"] | None:
    """Draws of a measure with these percentile limits; None where they do not lie on both sides."""
    own = resampling.percentile(to.estimate, drawn)
    below, above = own.estimate - own.low, own.high - own.estimate
    if min(below, above) < ROUNDING:
        return None
    factors = (to.estimate - to.low) / below, (to.high - to.estimate) / above
    away = drawn - to.estimate
    return to.estimate + away * np.where(away < 0, *factors)


def way(better: float, primary: str) -> str:
    """A difference in a measure, as sentences have it."""
    if primary in _GAINS:
        return f"{signed(better, 3)} {_GAINS[primary].removesuffix(' gained')}"
    return f"{signed(100 * better, 1)} points"


def _share(
    drawn: Float[np.ndarray, "d 2"], gain: Interval, lead: float, items: int, primary: str
) -> Measured:
    gained, estimate = _stretched(drawn[:, 0], gain), (gain.estimate, lead)
    found = resampling.ratio_interval(
        drawn[:, 0] if gained is None else gained, drawn[:, 1], estimate
    )
    if gained is None and isinstance(found, Interval):
        return Undefined("the two arms differ on too few items for limits of the share")
    if isinstance(found, Interval) and found.high - found.low > WIDEST:
        return Undefined(
            f"the teacher's lead of {way(estimate[1], primary)} is too uncertain: limits of the "
            "share would lie more than 1,000 % apart"
        )
    if isinstance(found, Interval) and estimate[1] > 0:
        return valued(found, items, "share")
    if isinstance(found, Interval):
        return Undefined("the teacher is worse than the other arm: there is no gap to close")
    return Undefined(
        f"the teacher's lead of {way(estimate[1], primary)} is not told from zero with these items "
        "and seeds, so nothing can be said of a share of it"
    )


def _p(first: _Good, second: _Good, crossed: Crossed, generator: np.random.Generator) -> float:
    if len(first) == 1 and crossed.clustered:
        return hypotheses.sign_flip(crossed.summed((first.astype(float) - second)[0]), generator)
    if len(first) == 1 and first.dtype != bool:
        return hypotheses.sign_flip((first - second)[0], generator)
    if len(first) == 1:
        only_first = int((first & ~second).sum())
        return hypotheses.mcnemar_exact(only_first, int((second & ~first).sum()))
    return hypotheses.sign_flip(first.mean(axis=1) - second.mean(axis=1), generator)


def _smallest(seen: Interval, items: int, primary: str) -> Value:
    """What would have been seen with probability 0.8; one item's worth of hits at the least."""
    width = hypotheses.seen_within(seen.low, seen.high)
    if primary in _GAINS:
        return Value(width, None, None, items, primary.partition("_")[0])
    return Value(min(1.0, max(width, 1 / items)), None, None, items, "points")
