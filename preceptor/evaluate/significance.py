"""From scores over seeds and items to values with 95 % intervals.

Means over items are resampled over seeds and items; what is one number a seed (a calibration error,
a kappa) gets Student's interval over seeds.

Dimension key: s seeds, n items, d draws.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from preceptor.evaluate.report import Difference, Measured, Undefined, Value
from preceptor.ops import hypotheses, proportions, resampling
from preceptor.ops.resampling import Crossed, Interval

POWER = 0.8
_Hits = Bool[np.ndarray, "s n"]
_Good = Bool[np.ndarray, "s n"] | Float[np.ndarray, "s n"]
"""A measure by which more is better: hits, or numbers."""

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
    """The mean of each column; rates ("fraction") stay in [0, 1] and never have width 0."""
    drawn = crossed.means(np.stack(list(columns.values())))
    values = {}
    for (name, column), draws in zip(columns.items(), drawn.T, strict=True):
        interval = resampling.percentile(float(column.mean()), draws)
        if units[name] == "fraction":
            interval = _rate(interval, column)
        values[name] = valued(interval, column.shape[1], units[name])
    return values


def _rate(interval: Interval, column: Float[np.ndarray, "s n"]) -> Interval:
    seeds, items = column.shape
    alike = bool((column == column[:1]).all())
    if seeds == 1 or alike or interval.low == interval.high:
        return proportions.wilson(interval.estimate * items, items)
    return _between_0_and_1(interval)


def _between_0_and_1(interval: Interval) -> Interval:
    return Interval(interval.estimate, max(0.0, interval.low), min(1.0, interval.high))


def over_seeds(numbers: Float[np.ndarray, " s"], unit: str, why: str) -> Measured:
    """The mean of one number a seed; `why` says what is missing where one is NaN.

    Student's interval knows no bounds: that of a rate ("fraction") is cut at 0 and 1.
    """
    if np.isnan(numbers).any():
        return Undefined(why)
    if len(numbers) == 1:
        return Value(float(numbers[0]), None, None, 1, unit)
    interval = resampling.t_interval(numbers)
    if unit == "fraction":
        interval = _between_0_and_1(interval)
    return valued(interval, len(numbers), unit)


def share_where(happens: _Hits, where: _Hits, crossed: Crossed, why: str) -> Measured:
    """P(happens | where), both varying with seed and item; `why` where that is never.

    The ratio of two means is resampled by its linear part, R + (happens - R where) / mean(where).
    """
    often = where.mean()
    if often == 0:
        return Undefined(why)
    rate = float((happens & where).mean() / often)
    column = rate + ((happens & where) - rate * where) / often
    drawn = crossed.means(column[None])[:, 0]
    interval = resampling.percentile(rate, drawn)
    n = max(1, round(float(often) * where.shape[1]))
    if interval.low == interval.high:
        return valued(proportions.wilson(rate * n, n), n, "fraction")
    return Value(rate, max(0.0, interval.low), min(1.0, interval.high), n, "fraction")


def gap(first: _Good, second: _Good, crossed: Crossed, primary: str = "accuracy") -> Value:
    """How much better the first is than the second."""
    difference = first.astype(float) - second
    drawn = crossed.means(difference[None])[:, 0]
    interval = resampling.percentile(float(difference.mean()), drawn)
    return valued(interval, first.shape[1], _GAINS.get(primary, "difference"))


def difference(
    of: tuple[str, _Good],
    versus: tuple[str, _Good],
    teacher: _Good | None,
    crossed: Crossed,
    generator: np.random.Generator,
    primary: str = "accuracy",
) -> Difference:
    """Two arms compared in the primary measure, with the share of the teacher's lead regained.

    `p_holm` is the p of this difference alone until `adjusted` has seen them all.
    """
    gained = of[1].astype(float) - versus[1]
    columns = [gained] if teacher is None else [gained, teacher.astype(float) - versus[1]]
    drawn = crossed.means(np.stack(columns))
    gain = resampling.percentile(float(gained.mean()), drawn[:, 0])
    share: Measured = Undefined("there is no teacher to come nearer to")
    if teacher is not None:
        both = gain.estimate, float(columns[1].mean())
        share = _share(drawn, both, gained.shape[1], primary)
    seeds, items = gained.shape
    p = _p(of[1], versus[1], generator)
    return Difference(
        of=of[0],
        versus=versus[0],
        gain=valued(gain, items, _GAINS.get(primary, "difference")),
        p=Value(p, None, None, seeds if seeds > 1 else items, "p"),
        p_holm=Value(p, None, None, seeds if seeds > 1 else items, "p"),
        smallest=_smallest(gain, items, primary),
        share=share,
    )


def _way(better: float, primary: str) -> str:
    return f"{better:+.3f}" if primary in _GAINS else f"{100 * better:+.1f} points"


def _share(
    drawn: Float[np.ndarray, "d 2"], estimate: tuple[float, float], items: int, primary: str
) -> Measured:
    found = resampling.ratio_interval(drawn[:, 0], drawn[:, 1], estimate)
    if isinstance(found, Interval) and estimate[1] > 0:
        return valued(found, items, "share")
    if isinstance(found, Interval):
        return Undefined("the teacher is worse than the other arm: there is no gap to close")
    return Undefined(
        f"the teacher ({_way(estimate[1], primary)}) is not clearly better than the other arm: "
        "there is no gap to close"
    )


def _p(first: _Good, second: _Good, generator: np.random.Generator) -> float:
    if len(first) == 1 and first.dtype != bool:
        return hypotheses.sign_flip((first - second)[0], generator)
    if len(first) == 1:
        only_first = int((first & ~second).sum())
        return hypotheses.mcnemar_exact(only_first, int((second & ~first).sum()))
    return hypotheses.sign_flip(first.mean(axis=1) - second.mean(axis=1), generator)


def _smallest(seen: Interval, items: int, primary: str) -> Value:
    """What would have been seen with probability 0.8; one item's worth of hits at the least."""
    z = stats.norm.ppf([0.5 + resampling.LEVEL / 2, POWER])
    width = float((1 + z[1] / z[0]) * (seen.high - seen.low) / 2)
    if primary in _GAINS:
        return Value(width, None, None, items, primary.partition("_")[0])
    return Value(max(width, 1 / items), None, None, items, "points")
