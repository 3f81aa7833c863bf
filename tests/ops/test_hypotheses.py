import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.weightstats import ttost_paired

from preceptor.errors import DataError
from preceptor.ops.hypotheses import (
    benjamini_hochberg,
    detectable,
    equivalent,
    holm,
    items_needed,
    mcnemar_exact,
    mcnemar_mid_p,
    not_worse,
    sign_flip,
)


def rng(seed=0):
    return np.random.default_rng(seed)


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


@pytest.mark.parametrize(("b", "c"), [(0, 6), (3, 12), (7, 7), (20, 5), (0, 0)])
def test_mid_p_counts_half_of_what_was_seen(b, c):
    total = b + c
    each = stats.binom.pmf(np.arange(total + 1), total, 0.5)
    seen = each[b]
    by_hand = each[each < seen * (1 - 1e-9)].sum() + each[np.isclose(each, seen)].sum() / 2
    if b == c:
        by_hand = (
            1 - seen if total else 1.0
        )  # The middle is one outcome, and half of it counts twice.
    assert mcnemar_mid_p(b, c) == pytest.approx(by_hand)


def test_benjamini_hochberg_is_statsmodels():
    p = rng().random(12) ** 3
    expected = np.asarray(multipletests(p, method="fdr_bh")[1])
    np.testing.assert_allclose(benjamini_hochberg(p), expected)


def test_two_one_sided_tests_are_statsmodels():
    first, second = rng().normal(0.1, 1.0, (2, 30))
    expected, lower, upper = ttost_paired(first, second, -0.4, 0.4)
    assert equivalent(first - second, 0.4) == pytest.approx(expected)
    assert not_worse(first - second, 0.4) == pytest.approx(lower[1])
    assert not_worse(second - first, 0.4) == pytest.approx(upper[1])


def test_a_test_without_a_margin_or_a_spread_gets_a_sentence():
    with pytest.raises(DataError, match="would not matter"):
        not_worse(np.ones(9), 0.0)
    with pytest.raises(DataError, match="more seeds"):
        equivalent(np.ones(1), 0.1)


def test_what_is_detectable_is_seen_that_often():
    effect = detectable(1.0, power=0.8)
    seen = NormalIndPower(ddof=0).power(effect, nobs1=1, alpha=0.05, ratio=0)
    assert seen == pytest.approx(0.8, abs=1e-4)


def test_items_for_a_difference_are_those_of_the_paper_and_the_inverse_of_what_is_detectable():
    assert items_needed(0.03, 1 / 9) == 969
    n = items_needed(0.02, 0.1, (0.2, 0.1), (2, 4))
    assert detectable(np.sqrt((0.1 + 0.1 + 0.025) / n)) == pytest.approx(0.02, rel=1e-3)
