"""Findings about a teacher: seen where they are, and not where they are not."""

import numpy as np
import pytest

from preceptor.evaluate.diagnosis import (
    confidence,
    cover,
    far_ahead,
    label_order,
    lead,
    settled,
    support,
    token_confidence,
    token_lead,
)
from preceptor.ops.calibration import temperature_interval
from preceptor.ops.resampling import Interval, t_interval

CLASSES = ("ant", "bee", "cow", "dog")


def answered(share: float, count: int = 400, seed: int = 0) -> np.ndarray:
    """Right answers to exactly a share of the items, in random places."""
    right = np.zeros(count, dtype=bool)
    right[: round(share * count)] = True
    return np.random.default_rng(seed).permutation(right)


def logits_of(labels: np.ndarray, accuracy: float, sure: float) -> np.ndarray:
    """Logits that give the answer a probability of `sure`, and are right on a share of items."""
    right = answered(accuracy, len(labels), seed=1)
    said = np.where(right, labels, (labels + 1) % len(CLASSES))
    rest = np.log((1 - sure) / (len(CLASSES) - 1))
    logits = np.full((len(labels), len(CLASSES)), rest)
    logits[np.arange(len(labels)), said] = np.log(sure)
    return logits


LABELS = np.arange(400) % 4


def test_a_teacher_that_is_better_is_said_to_lead() -> None:
    found = lead(answered(0.9), answered(0.6, seed=1), "the control")
    assert found is not None
    assert not found.against
    assert "lead of +30.0 points" in found.seen
    assert not found.advice


def test_a_teacher_that_is_worse_is_advised_against() -> None:
    found = lead(answered(0.5), answered(0.9, seed=1), "the control")
    assert found is not None
    assert found.against
    assert "Do not distil" in found.advice


def test_an_equal_teacher_closes_no_gap() -> None:
    found = lead(answered(0.8), answered(0.8, seed=1), "the control")
    assert found is not None
    assert not found.against
    assert "No lead is shown, nor is one ruled out" in found.advice
    assert "no gap" not in found.advice
    seen = t_interval(answered(0.8).astype(float) - answered(0.8, seed=1))
    # 80 % power takes 1.96 + 0.84 standard errors, the limits stand 1.966 away.
    least = 100 * (1.959964 + 0.841621) * (seen.high - seen.low) / 2 / 1.959964
    assert f"as much as {100 * seen.high:.1f} points, and one of {least:.1f} points" in found.advice


def test_nobody_is_told_to_bridge_the_gap_to_a_teacher_that_shows_no_lead() -> None:
    none = lead(answered(0.8), answered(0.8, seed=1), "the control")
    there = lead(answered(0.9), answered(0.6, seed=1), "the control")
    large = far_ahead(459.0)
    assert large is not None
    sure = confidence(logits_of(LABELS, 0.7, 0.99), LABELS)
    of_tokens = token_confidence(np.linspace(0.1, 0.3, 60), 0.6)
    assert sure is not None
    assert of_tokens is not None
    first, *others = settled([large, sure, of_tokens, None, none])
    assert first == none
    assert [each.seen for each in others] == [large.seen, sure.seen, of_tokens.seen]
    assert {each.advice for each in others} == {
        "Whether this teacher is worth following comes first: see its lead."
    }
    assert settled([sure, there]) == (there, sure)
    assert settled([large, there]) == (there, large)


def test_nothing_is_said_of_a_handful_of_items() -> None:
    few = np.ones(5, dtype=bool)
    assert lead(few, ~few, "the control") is None
    assert confidence(logits_of(LABELS[:5], 1.0, 0.9), LABELS[:5]) is None
    assert label_order(logits_of(LABELS[:5], 0.0, 0.9), LABELS[:5], CLASSES) is None


def test_classes_in_another_order_are_found_and_named() -> None:
    theirs = np.array([1, 2, 0, 3])[LABELS]
    found = label_order(logits_of(theirs, 0.95, 0.9), LABELS, CLASSES)
    assert found is not None
    assert found.against
    assert "its 'bee' is the data's 'ant'" in found.seen
    assert "'dog' is" not in found.seen


@pytest.mark.parametrize("accuracy", [0.95, 0.6, 0.3])
def test_a_teacher_that_errs_is_not_one_of_another_order(accuracy: float) -> None:
    drawn = np.random.default_rng(0)
    right = answered(accuracy, len(LABELS))
    wrong = (LABELS + drawn.integers(1, 4, len(LABELS))) % 4
    logits = np.eye(4)[np.where(right, LABELS, wrong)]
    assert label_order(logits, LABELS, CLASSES) is None


def test_over_confidence_comes_with_the_temperature_that_mends_it() -> None:
    found = confidence(logits_of(LABELS, 0.7, 0.99), LABELS)
    assert found is not None
    assert (
        "on the 400 validation items it gives its answers 99.0 % and is right on 70.0 %"
        in found.seen
    )
    # The least loss has p = 0.7: log 0.7 - log 0.1 = (log 0.99 - log (0.01 / 3)) / T.
    expected = (np.log(0.99) - np.log(0.01 / 3)) / np.log(7.0)
    limits = temperature_interval(logits_of(LABELS, 0.7, 0.99), LABELS)
    between = f"({limits.low:.2g} to {limits.high:.2g})"
    assert f"temperature of {expected:.2g} {between}: distil" in found.advice


def test_a_calibrated_or_modest_teacher_is_not_called_over_confident() -> None:
    assert confidence(logits_of(LABELS, 0.9, 0.9), LABELS) is None
    assert confidence(logits_of(LABELS, 0.9, 0.6), LABELS) is None


def test_a_teacher_at_chance_gets_no_temperature_and_the_end_of_the_search_is_called_so() -> None:
    chance = np.random.default_rng(0).normal(size=(400, 4))
    assert confidence(50 * chance, LABELS) is None
    always = np.zeros((400, 4)) + np.array([0.0, 9.0, 0.0, 0.0])
    assert confidence(always, np.minimum(LABELS, 1)) is None
    labels = np.tile(LABELS, 10)
    found = confidence(logits_of(labels, 0.3, 1 - 1e-9), labels)
    assert found is not None
    # It would take (log 1 - log (1e-9 / 3)) / log (0.3 / (0.7 / 3)) = 87.
    assert found.advice == "No temperature up to 50 calibrates it on these items."


def test_classes_that_nobody_shows_the_student_are_named() -> None:
    found = cover(np.array([0, 0, 2]), LABELS, CLASSES)
    assert found is not None
    assert "50.0 % of the test items" in found.seen
    assert "'bee', 'dog'" in found.seen
    assert cover(LABELS, LABELS, CLASSES) is None


def test_what_is_said_of_tokens_has_its_interval_over_rows() -> None:
    draw = np.random.default_rng(0)
    theirs, ours = 1.5 + 0.1 * draw.normal(size=60), 2.5 + 0.1 * draw.normal(size=60)
    found = token_lead(theirs, ours, "the student")
    assert found is not None
    limits = t_interval(ours - theirs)
    assert f"({limits.low:+.3f} to {limits.high:+.3f})" in found.seen
    assert not found.advice
    worse = token_lead(ours, theirs, "the student")
    assert worse is not None
    assert worse.against
    over = 0.1 + 0.02 * draw.normal(size=60)
    sure = token_confidence(over, 0.6, Interval(1.7, 1.5, 1.9))
    assert sure is not None
    assert "temperature of 1.7 (1.5 to 1.9)" in sure.advice
    assert f"{100 * (0.6 + over.mean()):.1f} % and is right on 60.0 %" in sure.seen
    assert token_confidence(over - 0.1, 0.6) is None
    assert token_lead(theirs[:5], ours[:5], "the student") is None


def test_a_student_that_would_hardly_write_as_its_teacher_is_told_to_begin_with_text() -> None:
    draw = np.random.default_rng(0)
    little = support(np.full(40, 0.2) + 0.05 * draw.random(40), 0.1, 10, writes=True)
    assert little is not None
    assert "begin with the data" in little.advice
    much = support(np.clip(0.9 + 0.2 * draw.normal(size=40), 0, 1), 0.8, 10, writes=True)
    assert much is not None
    assert not much.advice
    told = support(np.full(40, 0.2) + 0.05 * draw.random(40), 0.1, 10, writes=False)
    assert told is not None
    assert not told.advice
    assert far_ahead(9.0) is None
    ahead = far_ahead(30.0)
    assert ahead is not None
    assert "an assistant between" in ahead.advice
