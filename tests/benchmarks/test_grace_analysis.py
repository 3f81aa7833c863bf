import numpy as np
import pytest
from scipy import stats

from benchmarks.grace_analysis import Outcomes, mean_correlation, mean_regret, spearman

REACHED = np.array([0.2, 0.9, 0.5, 0.7])


def made(seeds: int = 3, items: int = 40) -> Outcomes:
    """Students that reach exactly these shares, under every seed; two selectors."""
    right = np.arange(items)[None, :] < (REACHED * items).round()[:, None]
    good, poor = [1.0, 4.0, 2.0, 3.0], [4.0, 1.0, 1.0, 4.0]
    scores = {"good": np.tile(good, (seeds, 1)), "poor": np.tile(poor, (seeds, 1))}
    accuracy = np.tile(right.astype(float), (seeds, 1, 1))
    return Outcomes(("a", "b", "c", "d"), scores, accuracy)


def test_rho_is_scipys_with_ties_too():
    draw = np.random.default_rng(0)
    for _ in range(20):
        first, second = draw.integers(0, 6, (2, 15)).astype(float)
        expected, _ = stats.spearmanr(first, second)
        assert spearman(first, second) == pytest.approx(expected, abs=1e-12)


def test_rho_of_what_never_varies_is_none():
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_a_selector_that_orders_as_students_come_out_has_rho_one_and_no_regret():
    found = made().correlation("good", draws=200)
    assert found.estimate == pytest.approx(1)
    assert found.low <= found.estimate <= found.high
    assert made().regret("good") == 0


def test_regret_of_equal_first_places_is_their_mean():
    # "poor" puts a and d first: 0.9 - (0.2 + 0.7) / 2.
    assert made().regret("poor") == pytest.approx(0.45)
    assert [made().teachers[at] for at in made().chosen("poor")] == ["a", "d"]


def test_choices_within_groups_are_meaned():
    groups = [["a", "b"], ["c", "d"]]
    # "poor" chooses a over b, losing 0.7, and d over c, losing nothing.
    assert mean_regret(made(), groups, "poor") == pytest.approx(0.35)
    assert mean_regret(made(), groups, "good") == 0
    assert mean_correlation(made(), groups, "poor") == pytest.approx(0)


def test_some_of_the_teachers_keep_their_own_numbers():
    some = made().of(["d", "b"])
    np.testing.assert_allclose(some.reached, [0.7, 0.9], atol=1e-12)
    np.testing.assert_array_equal(some.scores["good"][0], [3, 4])


def test_an_interval_of_noise_holds_zero():
    draw = np.random.default_rng(3)
    accuracy = (draw.random((3, 12, 60)) < 0.5).astype(float)
    noise = Outcomes(tuple("abcdefghijkl"), {"x": draw.random((3, 12))}, accuracy)
    found = noise.correlation("x", draws=300)
    assert found.low < 0 < found.high
