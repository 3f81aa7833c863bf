"""Rank correlations of measured cells, with a test and an interval that know what was shared.

Cells of a grid are no independent rows: those of one task, or of one student, share its luck. So
an interval draws whole *units* (tasks, say), and a test shuffles within *strata* and never pulls a
unit's cells apart where it need not. A *covariate* (the student's size, say) is taken out of both
sides first.

All of it is numpy in float64; whatever draws takes a generator.

Dimension key: n rows, k numbers, c covariates, d draws, u units.
"""

import itertools
import math
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from preceptor.errors import DataError
from preceptor.ops.resampling import DRAWS, LEVEL, bca, percentile

FEWEST_UNITS = 5
"""Below it the draws of a bootstrap are too few sets to be an interval."""

_DEGENERATE = 1e-12


class Correlation(NamedTuple):
    """Spearman's rho; limits are None where there are fewer than `FEWEST_UNITS` units.

    `p` is two-sided; `rows` were correlated, and `units` of them were drawn.
    """

    rho: float
    low: float | None
    high: float | None
    p: float
    rows: int
    units: int


def kendall(
    first: Shaped[Any, "*n k"], second: Shaped[Any, "*#n k"]
) -> Float[np.ndarray, "*n"] | float:
    """Kendall's tau-b along the last axis: 1 for one order, -1 for the reverse.

    (concordant - discordant) / sqrt(pairs untied in the first x pairs untied in the second): M. G.
    Kendall, "The treatment of ties in ranking problems", Biometrika 1945. NaN where one side is
    all ties. Takes n k^2 numbers of memory.

    >>> kendall(np.array([1, 2, 3, 4]), np.array([1, 2, 4, 3]))
    0.6666666666666666
    """
    signs = [np.sign(a[..., :, None] - a[..., None, :]) for a in _floats(first, second)]
    over = (signs[0] * signs[1]).sum(axis=(-2, -1))
    under = np.sqrt((signs[0] ** 2).sum(axis=(-2, -1)) * (signs[1] ** 2).sum(axis=(-2, -1)))
    found = np.divide(over, under, out=np.full(np.shape(over), np.nan), where=under > 0)
    return float(found) if found.ndim == 0 else found


def spearman(
    first: Shaped[Any, " n"],
    second: Shaped[Any, " n"],
    generator: np.random.Generator,
    *,
    units: Shaped[Any, " n"] | None = None,
    strata: Shaped[Any, " n"] | None = None,
    covariates: Shaped[Any, "n c"] | None = None,
    interval: Literal["percentile", "bca"] = "percentile",
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Correlation | str:
    """Spearman's rho of two columns with its permutation p and bootstrap interval, or why not.

    rho is Pearson's correlation of mid-ranks, so ties are allowed.

    Args:
        first: a column; what belongs to whole units, such as a size, comes here.
        second: another.
        generator: what the shuffles and the draws are taken from.
        units: a name a row; rows of one name are drawn together. Each row alone by default.
            Where `first` is one number a unit, the test shuffles units and not rows.
        strata: a name a row; ranks are taken within a stratum (as shares of its size), and the
            test shuffles within it, so a stratum's level says nothing.
        covariates: columns whose ranks are regressed out of both sides (the partial correlation);
            the test shuffles residuals: D. Freedman and D. Lane, "A nonstochastic interpretation
            of reported significance levels", JBES 1983.
        interval: of the draws' percentiles, or bias-corrected and accelerated: B. Efron, "Better
            bootstrap confidence intervals", JASA 1987.
        draws: of units for the interval, and of shuffles for p, which counts every rearrangement
            where there are no more than that, and is (1 + hits) / (1 + draws) otherwise.
        level: of the interval.
    """
    columns = _columns(first, second, covariates)
    rows = len(columns[0])
    if rows < 3:
        return f"{rows} rows were given, and a correlation needs three"
    of_stratum = _numbered(np.zeros(rows) if strata is None else strata)
    of_unit = _numbered(np.arange(rows) if units is None else units)
    measure = _Measure(columns, of_stratum)
    rho = float(measure(np.ones((1, rows)))[0])
    if math.isnan(rho):
        return "one of the two never varies" + _within(strata, covariates)
    p = _permuted_p(measure, _movers(columns[0], of_unit), draws, generator)
    count = int(of_unit.max()) + 1
    if count < FEWEST_UNITS:
        return Correlation(rho, None, None, p, rows, count)
    taken = np.stack(
        [np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(draws)]
    )
    drawn = measure(taken[:, of_unit].astype(np.float64))
    drawn = drawn[~np.isnan(drawn)]  # Draws of one unit alone, or of equal ones, have no rho.
    if len(drawn) < draws / 2:
        return Correlation(rho, None, None, p, rows, count)
    if interval == "bca":
        left_out = measure((of_unit != np.arange(count)[:, None]).astype(np.float64))
        found = bca(rho, drawn, left_out[~np.isnan(left_out)], level)
    else:
        found = percentile(rho, drawn, level)
    return Correlation(rho, found.low, found.high, p, rows, count)


class _Measure:
    """rho of rows that are drawn so many times each: ranks anew, within strata.

    A row's rank is the share of its stratum's draws that lie below it, ties counting half; the
    mean over a stratum is 1/2, so nothing is left to centre.
    """

    def __init__(
        self, columns: list[Float[np.ndarray, " n"]], of_stratum: Int[np.ndarray, " n"]
    ) -> None:
        together = of_stratum[:, None] == of_stratum
        below = [np.sign(each[None, :] - each[:, None]) / 2 + 0.5 for each in columns]
        self.of_stratum = of_stratum
        self._below = [np.where(together, each, 0.0) for each in below]  # [row below, row]
        self._together = together.astype(np.float64)

    def ranks(self, weight: Float[np.ndarray, "d n"]) -> Float[np.ndarray, "d c n"]:
        """Centred ranks of every column, from -1/2 to 1/2."""
        total = np.maximum(weight @ self._together, 1.0)
        return np.stack([weight @ each / total - 0.5 for each in self._below], axis=1)

    def __call__(self, weight: Float[np.ndarray, "d n"]) -> Float[np.ndarray, " d"]:
        return partial(self.ranks(weight), weight)


def partial(
    columns: Float[np.ndarray, "d c n"], weight: Float[np.ndarray, "d n"]
) -> Float[np.ndarray, " d"]:
    """Pearson's correlation of the first two of centred columns with the others taken out.

    NaN where, after that, one of the two does not vary.
    """
    products = (columns * weight[:, None]) @ columns.transpose(0, 2, 1)  # [d, c, c]
    own, between = products[:, :2, :2], products[:, :2, 2:]
    others = np.linalg.pinv(products[:, 2:, 2:], hermitian=True, rcond=1e-10)
    left = own - between @ others @ between.transpose(0, 2, 1)
    varies = np.diagonal(left, axis1=1, axis2=2)
    scale = np.maximum(np.diagonal(own, axis1=1, axis2=2), _DEGENERATE)
    defined = (varies > 1e-9 * scale).all(axis=1)
    under = np.sqrt(np.maximum(varies.prod(axis=1), 0.0))
    rho = np.divide(left[:, 0, 1], under, out=np.full(len(left), np.nan), where=defined)
    return np.clip(rho, -1.0, 1.0)


def _permuted_p(
    measure: _Measure,
    of_mover: Int[np.ndarray, " n"],
    draws: int,
    generator: np.random.Generator,
) -> float:
    """Two-sided p of rho where what is left of the first column is shuffled among the movers."""
    of_stratum = measure.of_stratum
    ones = np.ones((1, len(of_stratum)))
    ranks = measure.ranks(ones)[0]  # [c, n]
    fitted = _fitted(ranks[2:], ranks[0])
    count = np.bincount(of_mover)
    left = np.bincount(of_mover, ranks[0] - fitted) / count  # one number a mover
    lowest, highest = np.full(len(count), len(ones[0])), np.zeros(len(count), int)
    np.minimum.at(lowest, of_mover, of_stratum)
    np.maximum.at(highest, of_mover, of_stratum)
    # A mover that lies in several strata can only be exchanged across them.
    group = lowest if (lowest == highest).all() else np.zeros_like(lowest)
    orders = _shuffles(group, draws, generator)
    moved = np.empty((len(orders), *ranks.shape))
    moved[:] = ranks
    moved[:, 0] = fitted + left[orders][:, of_mover]
    seen = abs(float(partial(ranks[None], ones)[0]))
    found = np.abs(np.nan_to_num(partial(moved, np.broadcast_to(ones, moved[:, 0].shape))))
    hits = int((found >= seen - 1e-9).sum())
    exact = _rearrangements(group) <= draws
    return hits / len(moved) if exact else (1 + hits) / (1 + len(moved))


def _fitted(covariates: Float[np.ndarray, "c n"], column: Float[np.ndarray, " n"]) -> Any:
    """What covariates say of a centred column, by least squares; zeros where there are none."""
    return covariates.T @ np.linalg.lstsq(covariates.T, column)[0]


def _rearrangements(group: Int[np.ndarray, " m"]) -> float:
    # Sizes repeat a lot and products overflow; 170! is the last that a float holds.
    return math.prod(math.factorial(min(int(size), 170)) for size in np.bincount(group))


def _shuffles(
    group: Int[np.ndarray, " m"], draws: int, generator: np.random.Generator
) -> Int[np.ndarray, "d m"]:
    """Orders of the movers within their groups: all of them where they are few, else draws."""
    members = [np.flatnonzero(group == each) for each in np.unique(group)]
    if _rearrangements(group) <= draws:
        ways = [list(itertools.permutations(each.tolist())) for each in members]
        orders = np.empty((math.prod(map(len, ways)), len(group)), dtype=int)
        for row, chosen in enumerate(itertools.product(*ways)):
            for own, order in zip(members, chosen, strict=True):
                orders[row, own] = order
        return orders
    orders = np.empty((draws, len(group)), dtype=int)
    for own in members:
        orders[:, own] = own[generator.random((draws, len(own))).argsort(axis=1)]
    return orders


def _floats(*columns: Any) -> list[np.ndarray]:
    return [np.asarray(each, dtype=np.float64) for each in columns]


def _columns(first: Any, second: Any, covariates: Any) -> list[np.ndarray]:
    columns = _floats(first, second)
    if covariates is not None:
        columns += list(np.asarray(covariates, dtype=np.float64).T)
    if len({each.shape for each in columns}) > 1 or not all(
        np.isfinite(each).all() for each in columns
    ):
        raise DataError(
            f"columns of {', '.join(str(len(each)) for each in columns)} numbers were correlated",
            "they must be of one length, and without NaN and Inf",
            "Leave out, in all columns, the rows that have no number, and say which.",
        )
    return columns


def _numbered(names: Any) -> Int[np.ndarray, " n"]:
    return np.unique(np.asarray(names), return_inverse=True)[1].reshape(-1)


def _movers(first: Float[np.ndarray, " n"], of_unit: Int[np.ndarray, " n"]) -> Any:
    """What is shuffled: units where the column is one number a unit, else rows."""
    ends = [np.full(int(of_unit.max()) + 1, edge) for edge in (np.inf, -np.inf)]
    np.minimum.at(ends[0], of_unit, first)
    np.maximum.at(ends[1], of_unit, first)
    return of_unit if (ends[0] == ends[1]).all() else np.arange(len(first))


def _within(strata: Any, covariates: Any) -> str:
    if covariates is not None:
        return " once the covariates are taken out"
    return "" if strata is None else " within its strata"
