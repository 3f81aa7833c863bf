"""Measures that are no means over items as means over items, to be resampled as those are.

A kappa, an F1 or a correlation is no mean over items. What one item adds to it is its influence:
how the measure grows with the item's weight. The column measure + influence has the measure as its
mean, and near it the draws of the column's mean are those of the measure (the infinitesimal
jackknife of Jaeckel, 1972; B. Efron and C. Stein, "The jackknife estimate of variance", Annals of
Statistics 1981). Each measure's influence is written out here, by the chain rule.

All of it is numpy in float64. A column is NaN throughout where its measure is not defined.

Dimension key: n items, m of them.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

_CERTAIN = 1 - 1e-12
"""Agreement by chance from which there is nothing to correct for."""

_Column = Float[np.ndarray, " n"]


def ratio(sums: Float[np.ndarray, " n"], counts: Float[np.ndarray, " n"]) -> _Column:
    """A mean over all that items hold, where items hold unequally much: tokens of rows.

    sum(sums) / sum(counts) is the mean of the column; drawing items draws both sums.

    >>> ratio(np.array([1.0, 3.0]), np.array([1.0, 3.0]))
    array([1., 1.])
    """
    found = sums.sum() / counts.sum()
    return found + (sums - found * counts) / counts.mean()


def ratio_of_some(
    column: _Column, counts: _Column, some: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " m"]:
    """From the column of a `ratio` that of the same ratio of some of its items.

    >>> sums, counts = np.array([1.0, 6.0, 4.0]), np.array([1.0, 3.0, 4.0])
    >>> ratio_of_some(ratio(sums, counts), counts, counts < 4).mean()
    np.float64(1.75)
    """
    found = column.mean()
    sums = (column - found) * counts.mean() + found * counts
    return ratio(sums[some], counts[some])


def kappa(first: Shaped[Any, " n"], second: Shaped[Any, " n"]) -> _Column:
    """Cohen's kappa of two models' answers; NaN where both give one answer throughout.

    >>> kappa(np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1])).mean()
    np.float64(0.5)
    """
    items = len(first)
    named, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b = numbers[:items], numbers[items:]
    often_a, often_b = (np.bincount(side, minlength=len(named)) / items for side in (a, b))
    by_chance = often_b[a] + often_a[b] - often_a @ often_b
    return _above((a == b).astype(float), by_chance)


def kappa_bound(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> _Column:
    """The largest kappa over right and wrong that two models' accuracies a and b allow.

    They agree on at most 1 - |a - b|; NaN where both are always right, or always wrong.
    """
    x, y = first.astype(float), second.astype(float)
    a, b = x.mean(), y.mean()
    most = 1 - np.sign(a - b) * (x - y)
    by_chance = a * b + (1 - a) * (1 - b) + (2 * b - 1) * (x - a) + (2 * a - 1) * (y - b)
    return _above(most, by_chance)


def _above(seen: _Column, by_chance: _Column) -> _Column:
    """(seen - by_chance) / (1 - by_chance) of the means of two columns."""
    often, chance = seen.mean(), by_chance.mean()
    if chance >= _CERTAIN:
        return np.full(len(seen), np.nan)
    found = (often - chance) / (1 - chance)
    return found + (seen - often - (1 - found) * (by_chance - chance)) / (1 - chance)


def macro_f1(predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> _Column:
    """The mean F1 of the classes that occur on either side."""
    classes = int(max(predicted.max(), labels.max())) + 1
    right = predicted == labels
    held = np.bincount(predicted, minlength=classes) + np.bincount(labels, minlength=classes)
    occurs = held > 0
    f1 = 2 * np.bincount(labels, right, classes) / np.where(occurs, held, 1)
    influence = (2 * right - f1[labels]) / held[labels] - f1[predicted] / held[predicted]
    return f1[occurs].mean() + influence * (len(labels) / occurs.sum())


def correlation(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> _Column:
    """Pearson's; NaN where one side never varies."""
    sides = _standard(first), _standard(second)
    if sides[0] is None or sides[1] is None:
        return np.full(len(first), np.nan)
    return _product(sides[0][0], sides[1][0])


def rank_correlation(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> _Column:
    """Spearman's: Pearson's of mid-ranks; NaN where one side never varies.

    An item's weight moves the ranks of all others: leaving that out would make intervals wrong.
    """
    places = [np.unique(side, return_inverse=True)[1] for side in (first, second)]
    sides = [_standard(_mid_ranks(place)) for place in places]
    if sides[0] is None or sides[1] is None:
        return np.full(len(first), np.nan)
    (x, wide_x), (y, wide_y) = sides[0], sides[1]
    rho = (x * y).mean()
    moved = _by_moving_ranks(places[0], (y - rho * x) / wide_x)
    return _product(x, y) + moved + _by_moving_ranks(places[1], (x - rho * y) / wide_y)


def _mid_ranks(place: Int[np.ndarray, " n"]) -> _Column:
    """The share of items below each, and half of those beside it."""
    held = np.bincount(place) / len(place)
    return (held.cumsum() - held / 2)[place]


def _by_moving_ranks(place: Int[np.ndarray, " n"], slope: _Column) -> _Column:
    """What items do by moving the ranks above them; `slope` is how the measure grows with each."""
    held = np.bincount(place, slope) / len(place)
    moved = (held.sum() - held.cumsum() + held / 2)[place]
    return moved - moved.mean()


def _standard(values: Float[np.ndarray, " n"]) -> tuple[_Column, float] | None:
    """In standard deviations around the mean, and the deviation; None where it is 0."""
    away = np.asarray(values, dtype=np.float64) - np.mean(values, dtype=np.float64)
    spread = float(np.sqrt((away**2).mean()))
    return (away / spread, spread) if spread > 0 else None


def _product(x: _Column, y: _Column) -> _Column:
    """The correlation of two sides in standard deviations."""
    r = (x * y).mean()
    return x * y + r * (1 - (x**2 + y**2) / 2)
