import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from preceptor.errors import DataError
from preceptor.ops.calibration import (
    at_edge,
    brier,
    ece,
    fit_temperature,
    log_probabilities,
    nll,
    reliability,
    temperature_interval,
)


def sample(items=400, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return 2 * rng.normal(size=(items, classes)), rng.integers(0, classes, items)


def confidence_and_hits(logits, labels):
    logp = log_probabilities(logits)
    return np.exp(logp.max(-1)), logp.argmax(-1) == labels


def test_log_probabilities_are_float64_whatever_came_in():
    logits = sample()[0].astype(np.float32)
    logp = log_probabilities(logits)
    assert logp.dtype == np.float64
    np.testing.assert_allclose(np.exp(logp), softmax(logits.astype(float), axis=-1))


def test_nll_is_scikit_learns_log_loss():
    logits, labels = sample()
    probs = softmax(logits, axis=-1)
    expected = log_loss(labels, probs, labels=range(5))
    assert nll(log_probabilities(logits), labels).mean() == pytest.approx(expected, abs=1e-12)


def test_brier_is_twice_scikit_learns_for_two_classes():
    logits, labels = sample(classes=2)
    binary = brier_score_loss(labels, softmax(logits, axis=-1)[:, 1])
    assert brier(log_probabilities(logits), labels).mean() == pytest.approx(2 * binary)


def test_seeds_before_the_items_change_nothing():
    logits, labels = sample()
    both = np.stack([logits, -logits])
    for measure in (nll, brier):
        rows = measure(log_probabilities(both), labels)
        assert rows.shape == (2, 400)
        np.testing.assert_allclose(rows[1], measure(log_probabilities(-logits), labels))


def test_ece_of_equal_widths_is_torchmetrics():
    logits, labels = sample()
    expected = multiclass_calibration_error(
        torch.tensor(softmax(logits, axis=-1)), torch.tensor(labels), 5, n_bins=15, norm="l1"
    )
    got = ece(*confidence_and_hits(logits, labels), bins=15, binning="equal_width")
    assert got == pytest.approx(float(expected), abs=1e-6)


def test_ece_by_hand():
    confidence = np.array([0.3, 0.4, 0.8, 0.9])
    correct = np.array([True, False, True, True])
    # Halves: |1/2 - 0.35| and |1 - 0.85|, each holding half of the items.
    assert ece(confidence, correct, bins=2) == pytest.approx(0.15)


def test_equal_mass_bins_are_scikit_learns_quantile_bins():
    confidence, correct = confidence_and_hits(*sample())
    accuracy, mean = calibration_curve(correct, confidence, n_bins=8, strategy="quantile")
    points = reliability(confidence, correct, bins=8)
    np.testing.assert_allclose(points.accuracy, accuracy)
    np.testing.assert_allclose(points.confidence, mean)
    assert points.count.tolist() == [50] * 8


def test_the_order_of_items_of_equal_confidence_changes_nothing():
    rng = np.random.default_rng(3)
    confidence, correct = rng.choice([0.5, 0.7, 1.0], 90), rng.random(90) < 0.7
    order = rng.permutation(90)
    first, second = ece(confidence, correct), ece(confidence[order], correct[order])
    assert first == pytest.approx(second, abs=1e-12)


def test_no_items_get_a_sentence():
    with pytest.raises(DataError, match="at least one"):
        reliability(np.empty(0), np.empty(0, dtype=bool))


def test_the_temperature_undoes_a_scale_that_was_put_on():
    logits, labels = sample()
    rng = np.random.default_rng(1)
    labels = np.array([rng.choice(5, p=p) for p in softmax(logits, axis=-1)])
    fitted = fit_temperature(logits, labels)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fitted, rel=1e-3)
    assert fitted == pytest.approx(1.0, abs=0.15)


def test_the_temperature_is_where_the_derivative_vanishes():
    logits, _ = sample()
    labels = (logits + np.random.default_rng(1).normal(size=logits.shape)).argmax(-1)
    temperature = fit_temperature(logits, labels)
    # d nll / d(1/T) = E[expected logit - label's logit], which is 0 at the least value.
    p = np.exp(log_softmax(logits / temperature, axis=-1))
    slope = (p * logits).sum(-1) - logits[np.arange(len(labels)), labels]
    assert slope.mean() == pytest.approx(0.0, abs=1e-3)


def test_at_the_ends_of_the_range():
    logits = 10 * np.eye(3)
    assert fit_temperature(-logits, np.arange(3)) == pytest.approx(50.0, rel=1e-2)
    assert nll(log_probabilities(logits / fit_temperature(logits, np.arange(3))), np.arange(3)) == (
        pytest.approx(0.0, abs=1e-9)
    )


def test_limits_of_the_temperature_are_those_of_items_drawn_anew():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 4)) * 6
    labels = np.array([rng.choice(4, p=row) for row in softmax(logits / 3, axis=-1)])
    found = temperature_interval(logits, labels)
    assert found.estimate == fit_temperature(logits, labels)
    drawn = rng.integers(0, 300, (200, 300))
    again = [fit_temperature(logits[rows], labels[rows]) for rows in drawn]
    np.testing.assert_allclose(found[1:], np.quantile(again, [0.025, 0.975]), rtol=0.06)
    ended = temperature_interval(logits, logits.argmax(axis=-1))
    assert at_edge(ended.estimate)
    assert ended.low == ended.high
