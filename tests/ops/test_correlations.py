"""Rank correlations: against scipy, by hand, and where rows share something."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from preceptor.errors import DataError
from preceptor.ops.correlations import Correlation, kendall, spearman

scipys: Any = stats  # Its stubs know no results' names.


def found(*columns: np.ndarray, seed: int = 0, **options: object) -> Correlation:
    answer = spearman(*columns, np.random.default_rng(seed), **options)  # type: ignore[arg-type]
    assert isinstance(answer, Correlation)
    return answer


def why(*columns: np.ndarray, **options: object) -> str:
    answer = spearman(*columns, np.random.default_rng(0), **options)  # type: ignore[arg-type]
    assert isinstance(answer, str)
    return answer


@pytest.mark.parametrize("levels", [3, 1000])
def test_both_equal_scipys_with_and_without_ties(levels: int) -> None:
    generator = np.random.default_rng(levels)
    first = generator.integers(0, levels, 40)
    second = first + generator.integers(0, levels, 40)
    ours = found(first, second)
    assert ours.rho == pytest.approx(scipys.spearmanr(first, second).statistic, abs=1e-12)
    assert kendall(first, second) == pytest.approx(scipys.kendalltau(first, second).statistic)


def test_tau_of_many_rows_is_taken_row_by_row_and_all_ties_have_none() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((4, 7)), generator.random((4, 7))
    first[3] = 1.0
    rows = kendall(first, second)
    expected = [scipys.kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rows, expected)
    assert np.isnan(rows)[3]


def test_few_rows_count_every_order() -> None:
    first, second = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 3, 5, 4])
    seen = scipys.spearmanr(first, second).statistic
    orders = [scipys.spearmanr(first, order).statistic for order in itertools.permutations(second)]
    expected = np.mean(np.abs(orders) >= seen - 1e-9)
    assert found(first, second).p == pytest.approx(expected)


def test_p_of_many_rows_is_scipys_permutation_p() -> None:
    generator = np.random.default_rng(4)
    first = generator.random(30)
    second = first + generator.normal(0, 0.9, 30)
    test = stats.permutation_test(
        (second,),
        lambda moved: scipys.spearmanr(first, moved).statistic,
        permutation_type="pairings",
        n_resamples=4000,
        rng=1,
    )
    assert found(first, second, draws=20_000).p == pytest.approx(test.pvalue, abs=0.02)


@pytest.mark.parametrize("kind", ["percentile", "bca"])
def test_the_interval_is_scipys(kind: str) -> None:
    generator = np.random.default_rng(2)
    first = generator.random(40)
    second = first + generator.normal(0, 0.3, 40)
    theirs = stats.bootstrap(
        (first, second),
        lambda a, b: scipys.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=3000,
        method="BCa" if kind == "bca" else "percentile",
        rng=1,
    ).confidence_interval
    ours = found(first, second, interval=kind, draws=6000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_a_covariate_is_taken_out_as_the_formula_says() -> None:
    generator = np.random.default_rng(3)
    size = generator.random(50)
    first, second = size + generator.random(50), size + generator.random(50)
    r = np.corrcoef([stats.rankdata(each) for each in (first, second, size)])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    bare, ours = found(first, second), found(first, second, covariates=size[:, None])
    assert ours.rho == pytest.approx(expected)
    assert bare.p < 0.01 < ours.p


def test_strata_hide_their_levels() -> None:
    """Within each task the two are opposed; pooled, the tasks' levels make them look alike."""
    task = np.repeat(np.arange(6), 3)
    inside = np.tile([0.0, 1.0, 2.0], 6)
    first, second = 10 * task + inside, 10 * task - inside
    assert found(first, second).rho > 0.9
    within = found(first, second, strata=task, units=task)
    assert within.rho == pytest.approx(-1)
    assert (within.low, within.high, within.units) == (-1, -1, 6)


def test_repeated_cells_of_a_unit_prove_nothing_more() -> None:
    """Four students, ten cells each: 40 rows, yet four sizes have but 24 orders."""
    generator = np.random.default_rng(5)
    student = np.repeat(np.arange(4), 10)
    size, gain = student.astype(float), student + generator.normal(0, 0.1, 40)
    assert found(size, gain).p < 0.001
    honest = found(size, gain, units=student)
    assert honest.p == pytest.approx(2 / 24)
    assert honest.low is None
    assert honest.units == 4


def test_what_belongs_to_units_is_shuffled_across_the_strata_they_share() -> None:
    """Students crossed with tasks: 5 students are exchanged as wholes, so p is at least 2 / 5!."""
    student, task = np.tile(np.arange(5), 8), np.repeat(np.arange(8), 5)
    gain = -student + np.random.default_rng(0).normal(0, 0.01, 40)
    answer = found(student, gain, units=student, strata=task)
    assert answer.rho == pytest.approx(-1)
    assert answer.p == pytest.approx(2 / 120)


def test_p_is_uniform_where_nothing_is_shared() -> None:
    generator = np.random.default_rng(8)
    task = np.repeat(np.arange(4), 5)
    level = np.repeat(generator.random(4) * 9, 5)
    hits = 0
    for trial in range(300):
        first, second = level + generator.random(20), level + generator.random(20)
        hits += found(first, second, strata=task, seed=trial, draws=200).p <= 0.1
    assert 13 <= hits <= 49  # 30 expected; five standard deviations would be 26 either way


def test_a_column_that_never_varies_has_no_rho_but_a_reason() -> None:
    many = np.arange(9)
    assert "never varies" in why(np.ones(9), many)
    assert "covariates" in why(many, np.roll(many, 3), covariates=many[:, None])
    assert "three" in why(many[:2], many[:2])


def test_rows_without_a_number_are_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        spearman(np.array([1.0, np.nan, 2.0]), np.arange(3), np.random.default_rng(0))
