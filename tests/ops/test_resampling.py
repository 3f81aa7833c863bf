import numpy as np
import pytest
from scipy import stats

from preceptor.errors import DataError
from preceptor.ops.clusters import clustered_error
from preceptor.ops.resampling import (
    Crossed,
    Interval,
    bca,
    paired_bootstrap,
    percentile,
    ratio_interval,
    t_interval,
)


def rng(seed=0):
    return np.random.default_rng(seed)


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


def test_clusters_are_drawn_whole_and_their_spread_is_the_clustered_error():
    generator = rng(3)
    passage = generator.integers(0, 40, 300)
    values = generator.normal(size=40)[passage] + generator.normal(size=300)
    drawn = Crossed(1, 300, rng(), draws=8000, clusters=passage).means(values[None, None])[:, 0]
    assert drawn.std() == pytest.approx(clustered_error(values, passage), rel=0.04)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)
    alone = Crossed(2, 60, rng(9)).means(values[None, None, :60])
    named = Crossed(2, 60, rng(9), clusters=np.arange(60)).means(values[None, None, :60])
    np.testing.assert_allclose(alone, named)


def test_bca_is_scipys():
    values = rng(4).exponential(size=30)
    drawn = values[rng().integers(0, 30, (20_000, 30))].mean(axis=1)
    left_out = (values.sum() - values) / 29
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=1
    ).confidence_interval
    got = bca(values.mean(), drawn, left_out)
    assert got[1:] == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert bca(0.0, np.ones(9), left_out) == percentile(0.0, np.ones(9))


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


def test_percentile_limits_are_the_draws_quantiles():
    assert percentile(0.5, np.linspace(0, 1, 41)) == pytest.approx((0.5, 0.025, 0.975))
