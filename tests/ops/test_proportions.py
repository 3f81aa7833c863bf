import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.proportion import proportion_confint

from preceptor.errors import DataError
from preceptor.ops.proportions import clopper_pearson, less, ratio_of_rates, tango, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (20, 20), (7, 20), (493, 500)])
def test_wilson_is_statsmodels(successes, n):
    limits = np.asarray(proportion_confint(successes, n, method="wilson"), dtype=float)
    np.testing.assert_allclose(wilson(successes, n)[1:], limits, atol=1e-12)
    assert wilson(successes, n).estimate == successes / n


def test_wilson_of_nothing_gets_a_sentence():
    with pytest.raises(DataError, match="Give some items"):
        wilson(0, 0)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (20, 20), (7, 20), (493, 500)])
def test_clopper_pearson_is_statsmodels(successes, n):
    limits = np.asarray(proportion_confint(successes, n, method="beta"), dtype=float)
    np.testing.assert_allclose(clopper_pearson(successes, n)[1:], limits, atol=1e-12)


def test_the_exact_interval_never_holds_the_truth_less_often_than_it_says():
    n, rate = 30, 0.13
    held = [
        stats.binom.pmf(k, n, rate)
        for k in range(n + 1)
        if clopper_pearson(k, n).low <= rate <= clopper_pearson(k, n).high
    ]
    assert sum(held) >= 0.95


def score(b, c, n, difference):
    """The score statistic with the likeliest of the distributions that have this difference."""

    def unlikely(alone):
        cells = np.array([alone + difference, alone, 1 - 2 * alone - difference])
        return -float(np.array([b, c, n - b - c]) @ np.log(np.maximum(cells, 1e-300)))

    low, high = max(0.0, -difference) + 1e-12, (1 - difference) / 2 - 1e-12
    alone = optimize.minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-11}
    ).x
    return (b - c - n * difference) / np.sqrt(n * (2 * alone + difference - difference**2))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 50), (4, 3, 44), (1, 9, 40), (30, 25, 500)])
def test_tangos_limits_are_where_the_score_test_turns(b, c, n):
    got = tango(b, c, n)
    assert got.estimate == (b - c) / n
    assert score(b, c, n, got.low) == pytest.approx(1.959964, abs=1e-3)
    assert score(b, c, n, got.high) == pytest.approx(-1.959964, abs=1e-3)


def test_tango_is_mirrored_has_width_where_nothing_differs_and_stays_within_bounds():
    assert tango(3, 9, 60)[1:] == pytest.approx([-x for x in tango(9, 3, 60)[:0:-1]])
    same = tango(0, 0, 50)
    # By hand: n d = z sqrt(n (1 - d) d), so d = z^2 / (n + z^2).
    assert same.high == pytest.approx(1.959964**2 / (50 + 1.959964**2), abs=1e-6)
    assert same.low == pytest.approx(-same.high)
    every = tango(20, 0, 20)
    assert every.estimate == every.high == 1.0


def test_counts_that_are_none_get_a_sentence():
    with pytest.raises(DataError, match="some of the items"):
        tango(5, 6, 10)


def ratio_score(both, b, c, n, ratio):
    """The score statistic of a ratio of rates, by searching the likeliest of all such rates."""
    if ratio < 1:  # The same test with the models exchanged.
        return -ratio_score(both, c, b, n, 1 / ratio)
    rest = n - both - b - c

    def unlikely(logits):
        alone, shared, none = np.exp(logits - np.logaddexp.reduce([*logits, 0.0]))
        more = (ratio - 1) * shared + ratio * alone
        cells = np.array([shared, more, alone, none])
        cells = cells / cells.sum()
        return -float(np.array([both, b, c, rest]) @ np.log(cells))

    start = np.log(np.array([c + 1, both + 1, rest + 1]) / (b + 1))
    best = optimize.minimize(
        unlikely,
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 9999},
    ).x
    alone, shared, none = np.exp(best - np.logaddexp.reduce([*best, 0.0]))
    more = (ratio - 1) * shared + ratio * alone
    whole = alone + shared + none + more
    return (both + b - ratio * (both + c)) / np.sqrt(n * ratio * (more + alone) / whole)


@pytest.mark.parametrize(("both", "b", "c", "n"), [(30, 6, 9, 60), (43, 8, 2, 60), (10, 3, 4, 20)])
def test_a_ratios_limits_are_where_its_score_test_turns(both, b, c, n):
    got = ratio_of_rates(b, c, both, n)
    assert got.estimate == (both + b) / (both + c)
    assert ratio_score(both, b, c, n, got.low) == pytest.approx(1.959964, abs=2e-3)
    assert ratio_score(both, b, c, n, got.high) == pytest.approx(-1.959964, abs=2e-3)


def test_a_ratio_of_models_that_never_differ_has_width_and_is_mirrored():
    same = ratio_of_rates(0, 0, 50, 50)
    # By hand: n (1 - r) = z sqrt(n r (1 - r)), so r = n / (n + z^2), Wilson's lower limit.
    assert same.low == pytest.approx(wilson(50, 50).low)
    assert same.high == pytest.approx(1 / same.low)
    turned, straight = ratio_of_rates(2, 9, 30, 60), ratio_of_rates(9, 2, 30, 60)
    assert turned.low == pytest.approx(1 / straight.high)
    assert ratio_of_rates(0, 5, 0, 20).low == 0.0
    with pytest.raises(DataError, match="Leave the ratio out"):
        ratio_of_rates(3, 0, 0, 20)


def test_limits_of_a_difference_of_two_quantities_are_newcombes():
    first, second = wilson(56, 70), wilson(48, 80)
    # R. Newcombe, "Interval estimation for the difference ...", 1998, table II, example (a), 10.
    assert less(first, second)[1:] == pytest.approx((0.0524, 0.3339), abs=5e-5)
