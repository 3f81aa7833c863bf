import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.metrics import cohen_kappa_score

from preceptor.evaluate.fidelity import (
    agreement_on_errors,
    cohen_kappa,
    confidence_correlation,
    error_consistency,
    jensen_shannon,
    kl,
    same_answer,
)


def answers(items=500, classes=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, items)
    spoilt = [np.where(rng.random(items) < 0.3, rng.integers(0, classes, items), labels)]
    spoilt.append(np.where(rng.random(items) < 0.2, rng.integers(0, classes, items), labels))
    return labels, *spoilt


def test_kappa_is_scikit_learns():
    _, first, second = answers()
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_is_one_for_itself_and_about_zero_for_strangers():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 20_000))
    assert cohen_kappa(first, first) == pytest.approx(1.0)
    assert cohen_kappa(first, second) == pytest.approx(0.0, abs=0.02)
    assert np.isnan(cohen_kappa(np.zeros(3, dtype=int), np.zeros(3, dtype=int)))


def test_error_consistency_is_kappa_over_right_and_wrong():
    labels, first, second = answers()
    got = error_consistency(first == labels, second == labels)
    assert got.kappa == pytest.approx(cohen_kappa_score(first == labels, second == labels))


def test_error_consistency_reaches_its_bound_where_one_fails_whenever_the_other_does():
    first = np.array([True] * 6 + [False] * 4)
    second = np.array([True] * 8 + [False] * 2)
    got = error_consistency(first, second)
    # By hand: c = 0.8, c_e = 0.48 + 0.08 = 0.56.
    assert got.kappa == pytest.approx((0.8 - 0.56) / 0.44)
    assert got.bound == pytest.approx(got.kappa)


def test_copied_errors_by_hand():
    labels = np.array([0, 1, 2, 2])
    teacher = np.array([0, 0, 1, 0])
    student = np.array([0, 0, 1, 2])
    assert agreement_on_errors(student, teacher, labels) == pytest.approx(2 / 3)
    assert np.isnan(agreement_on_errors(student, labels, labels))
    assert same_answer(student, teacher).tolist() == [True, True, True, False]


def test_divergences_are_scipys_and_broadcast_over_seeds():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), (3, 40)), rng.dirichlet(np.ones(5), (1, 40))
    np.testing.assert_allclose(kl(np.log(p), np.log(q)), entropy(p, q, axis=-1))
    expected = [[jensenshannon(a, b) ** 2 for a, b in zip(row, q[0], strict=True)] for row in p]
    np.testing.assert_allclose(jensen_shannon(np.log(p), np.log(q)), expected, atol=1e-12)


def test_confidences_that_never_vary_have_no_correlation():
    rising = np.array([0.1, 0.2, 0.4])
    assert confidence_correlation(rising, 1 - rising) == pytest.approx(-1.0)
    assert np.isnan(confidence_correlation(rising, np.ones(3)))
