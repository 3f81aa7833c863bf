import numpy as np
import pytest
from scipy import stats

from preceptor.ops.rankings import jaccard, kendall_of_top, rank_biased_overlap, top


def scores(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_top_is_in_order():
    assert top(np.array([[0.1, 0.7, 0.2]]), 2).tolist() == [[1, 2]]


def test_jaccard_is_the_sets():
    first, second = scores(0, 30, 8), scores(1, 30, 8)
    expected = [
        len(set(a) & set(b)) / len(set(a) | set(b))
        for a, b in zip(top(first, 3), top(second, 3), strict=True)
    ]
    np.testing.assert_allclose(jaccard(first, second, 3), expected)


def test_tau_is_scipys_over_the_references_top_and_ties_count_as_nothing():
    first, second = scores(0, 20, 9), scores(1, 20, 9)
    expected = [
        float(np.asarray(stats.kendalltau(a[best], b[best]))[0])
        for a, b, best in zip(first, second, top(first, 5), strict=True)
    ]
    np.testing.assert_allclose(kendall_of_top(first, second, 5), expected)
    assert kendall_of_top(first, np.zeros((20, 9)), 5).tolist() == [0.0] * 20


def test_rank_biased_overlap_by_hand():
    # Orders abc and acb: overlaps 1, 1, 3. (1 - p)(1 + p / 2 + p^2) + p^3 with p = 0.9.
    got = rank_biased_overlap(np.array([[3.0, 2.0, 1.0]]), np.array([[3.0, 1.0, 2.0]]), 3)
    assert got == pytest.approx([0.1 * (1 + 0.45 + 0.81) + 0.729])


def test_rank_measures_are_one_for_one_order_and_stay_within_their_bounds():
    first, second = scores(0, 3, 40, 7), scores(1, 1, 40, 7)
    for measure, least in ((jaccard, 0), (rank_biased_overlap, 0), (kendall_of_top, -1)):
        np.testing.assert_allclose(measure(first, first, 4), 1.0)
        found = measure(first, second, 4)
        assert found.shape == (3, 40)
        assert found.min() >= least
        assert found.max() <= 1
    np.testing.assert_allclose(kendall_of_top(first, -first, 4), -1.0)


def test_more_places_than_classes_are_all_of_them():
    assert jaccard(scores(0, 5, 3), scores(1, 5, 3), 10).tolist() == [1.0] * 5
