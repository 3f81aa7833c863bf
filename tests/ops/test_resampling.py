import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from preceptor.errors import DataError
from preceptor.ops.resampling import (
    Crossed,
    Interval,
    holm,
    mcnemar_exact,
    paired_bootstrap,
    percentile,
    ratio_interval,
    sign_flip,
    t_interval,
    wilson,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (20, 20), (7, 20), (493, 500)])
def test_wilson_is_statsmodels(successes, n):
    limits = np.asarray(proportion_confint(successes, n, method="wilson"), dtype=float)
    np.testing.assert_allclose(wilson(successes, n)[1:], limits, atol=1e-12)
    assert wilson(successes, n).estimate == successes / n


def test_wilson_of_nothing_gets_a_sentence():
    with pytest.raises(DataError, match="Give some items"):
        wilson(0, 0)


def test_the_t_interval_is_scipys_paired_test():
    a, b = rng().normal(size=(2, 6))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    got = t_interval(a - b)
    np.testing.assert_allclose([got.low, got.high], [expected.low, expected.high])


def test_one_seed_has_no_t_interval():
    with pytest.raises(DataError, match="at least 3"):
        t_interval(np.array([1.0]))


def test_where_only_seeds_vary_the_bootstrap_is_about_the_t_interval():
    of_seeds = rng(1).normal(size=8)
    got = paired_bootstrap(
        np.repeat(of_seeds[:, None], 50, 1), np.zeros((8, 50)), rng(), draws=9000
    )
    wanted = t_interval(of_seeds)
    assert got.estimate == pytest.approx(wanted.estimate)
    assert got.high - got.low == pytest.approx(wanted.high - wanted.low, rel=0.08)


def test_where_only_items_vary_the_bootstrap_is_about_the_normal_interval():
    of_items = rng(1).normal(size=400)
    got = paired_bootstrap(np.tile(of_items, (8, 1)), np.zeros((8, 400)), rng(), draws=9000)
    wanted = 2 * 1.96 * of_items.std() / 20
    assert got.high - got.low == pytest.approx(wanted, rel=0.04)


def test_the_spread_is_that_of_the_crossed_random_effects():
    generator, seeds, items = rng(5), 40, 300
    values = (
        0.3 * generator.normal(size=(seeds, 1))
        + 0.5 * generator.normal(size=(1, items))
        + generator.normal(size=(seeds, items))
    )
    drawn = Crossed(seeds, items, rng(), draws=8000).means(values[None])[:, 0]
    # Mean squares: (MS(seed) + MS(item) - MS(rest)) / (s n), and the seeds' part widened by t / z.
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    ms_rest = (rest**2).sum() / ((seeds - 1) * (items - 1))
    of_seeds = values.mean(1).var(ddof=1) / seeds * (stats.t.ppf(0.975, seeds - 1) / 1.96) ** 2
    of_items = values.mean(0).var(ddof=1) / items - ms_rest / (seeds * items)
    assert drawn.var() == pytest.approx(of_seeds + of_items, rel=0.06)


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    generator, held = rng(2), 0
    for _ in range(200):
        ease = generator.normal(size=120)
        shift = 0.3 + 0.3 * generator.normal(size=(5, 1))
        noise = generator.normal(size=(2, 5, 120))
        got = paired_bootstrap(ease + shift + noise[0], ease + noise[1], generator, draws=400)
        held += got.low <= 0.3 <= got.high
    assert 0.91 <= held / 200 <= 0.99


def test_an_item_that_is_hard_for_both_costs_the_pair_nothing():
    ease = 5 * rng(1).normal(size=(1, 200))
    noise = rng(2).normal(size=(2, 4, 200))
    paired = paired_bootstrap(noise[0] + ease, noise[1] + ease, rng())
    np.testing.assert_allclose(paired, paired_bootstrap(noise[0], noise[1], rng()), atol=1e-12)


def test_the_same_generator_gives_the_same_draws_and_slabs_change_nothing(monkeypatch):
    values = rng().normal(size=(3, 4, 50))
    first = Crossed(4, 50, rng(9), draws=100).means(values)
    np.testing.assert_array_equal(first, Crossed(4, 50, rng(9), draws=100).means(values))
    monkeypatch.setattr("preceptor.ops.resampling._CELLS", 50 * 7)
    np.testing.assert_allclose(first, Crossed(4, 50, rng(9), draws=100).means(values))


def test_a_measure_of_one_shared_model_varies_with_items_alone():
    crossed, value = Crossed(5, 60, rng()), rng(1).normal(size=(1, 1, 60))
    np.testing.assert_allclose(crossed.means(value), crossed.means(np.repeat(value, 5, axis=1)))


def test_identical_arms_differ_by_nothing_at_all():
    same = rng().random((3, 40)) < 0.8
    assert paired_bootstrap(same, same, rng()) == Interval(0.0, 0.0, 0.0)


def test_the_ratio_is_about_fiellers():
    numerator, denominator = rng(1).normal([1.0, 2.0], 0.2, (4000, 2)).T
    got = ratio_interval(numerator, denominator, (1.0, 2.0))
    assert not isinstance(got, str)
    # Fieller (1954) with independent normal means of 1 and 2, both of standard error 0.2.
    g = (1.96 * 0.2 / 2.0) ** 2
    half = 1.96 * 0.2 / 2.0 * np.sqrt(1 + 0.25 - g)
    np.testing.assert_allclose(
        got, (0.5, (0.5 - half) / (1 - g), (0.5 + half) / (1 - g)), rtol=0.05
    )


def test_the_ratio_to_something_that_may_be_nothing_is_refused_in_words():
    drawn = rng().normal(size=(2, 2000))
    answer = ratio_interval(drawn[0] + 1, drawn[1] + 1, (1.0, 1.0))
    assert isinstance(answer, str)
    assert "not told from 0" in answer
    assert "not told from 0" in str(ratio_interval(np.ones(5), np.zeros(5), (1.0, 0.0)))


def test_a_negative_denominator_keeps_the_order_of_the_limits():
    drawn = rng().normal([1.0, -4.0], 0.1, (2000, 2)).T
    got = ratio_interval(drawn[0], drawn[1], (1.0, -4.0))
    assert not isinstance(got, str)
    assert got.low < got.estimate == -0.25 < got.high


@pytest.mark.parametrize("count", [3, 6, 10])
def test_the_sign_flip_is_scipys_permutation_test(count):
    differences = rng(count).normal(0.5, 1.0, count)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=10_000
    ).pvalue
    assert sign_flip(differences, rng()) == pytest.approx(expected)


def test_many_differences_are_flipped_at_random_and_p_is_never_zero():
    assert sign_flip(np.ones(40), rng(), draws=99) == 0.01
    null = sign_flip(rng().normal(size=30), rng(1), draws=4000)
    assert null == pytest.approx(ttest_p(rng().normal(size=30)), abs=0.03)


def ttest_p(differences):
    _, p = stats.ttest_1samp(differences, 0.0)
    return p


def test_differences_of_nothing_are_no_evidence():
    assert sign_flip(np.zeros(5), rng()) == 1.0


@pytest.mark.parametrize(("b", "c"), [(0, 6), (3, 12), (7, 7), (20, 5), (0, 0)])
def test_mcnemar_is_statsmodels(b, c):
    expected = getattr(mcnemar([[10, b], [c, 10]], exact=True), "pvalue") if b + c else 1.0  # noqa: B009
    assert mcnemar_exact(b, c) == pytest.approx(expected)


def test_holm_is_statsmodels():
    p = rng().random(12) ** 3
    np.testing.assert_allclose(holm(p), np.asarray(multipletests(p, method="holm")[1]))


def test_percentile_limits_are_the_draws_quantiles():
    assert percentile(0.5, np.linspace(0, 1, 41)) == pytest.approx((0.5, 0.025, 0.975))
