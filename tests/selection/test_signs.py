"""What another draw of the random signs does to a lead, told from one draw."""

from dataclasses import replace

import numpy as np
import pytest

from preceptor.ops.resampling import Interval
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.means import MeanLoss
from preceptor.selection.signs import caution_about_lead, spread_of_lead
from tests.selection.random_features import isotropic

WIDE, NARROW = 300, 24
SPECTRUM = np.arange(1, WIDE + 1) ** -0.6


def sketched(whole: Features, seed: int) -> Features:
    """The gradients under signs of this seed."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(WIDE, NARROW))
    sketches = (whole.sketches @ signs / np.sqrt(NARROW)).astype(np.float32)
    return replace(whole, sketches=sketches, probe=replace(whole.probe, dimension=NARROW))


@pytest.fixture(scope="module")
def pair() -> tuple[Features, Features]:
    """Two candidates whose gradients lie in other directions, in all their numbers."""
    first = isotropic(60, 2, WIDE, alike=0.2, spectrum=SPECTRUM, seed=1)
    return first, isotropic(60, 2, WIDE, alike=0.2, spectrum=SPECTRUM[::-1].copy(), seed=2)


def test_halves_of_one_sketch_tell_the_spread_over_draws_of_signs(
    pair: tuple[Features, Features],
) -> None:
    score = Grace(folds=3)
    drawn = [[sketched(each, seed) for each in pair] for seed in range(60)]
    ratios = [np.log(score.value(one) / score.value(other)) for one, other in drawn]
    told = np.mean([spread_of_lead(score, one, other) for one, other in drawn[:4]])
    assert told == pytest.approx(np.std(ratios), rel=0.3)


def test_a_score_that_no_sign_moves_has_no_spread(pair: tuple[Features, Features]) -> None:
    first, second = (sketched(each, 0) for each in pair)
    assert spread_of_lead(MeanLoss(), first, second) == pytest.approx(0, abs=1e-12)


def test_a_lead_that_other_signs_may_undo_is_told_and_a_sure_one_or_a_tie_is_not(
    pair: tuple[Features, Features],
) -> None:
    score = Grace(folds=3)
    candidates = {name: sketched(each, 0) for name, each in zip("ab", pair, strict=True)}
    values = {name: score.value(each) for name, each in candidates.items()}
    spread = spread_of_lead(score, candidates["a"], candidates["b"]) * values["a"]

    def said(low: float, high: float) -> str | None:
        held = Interval((low + high) / 2, low, high)
        return caution_about_lead(score, candidates, {"b": held}, values)

    barely = said(-5 * spread, -0.5 * spread)
    assert barely is not None
    assert barely.startswith("a is told from b barely: its lead of")
    assert "Ask again with features.seed" in barely
    assert said(-9 * spread, -4 * spread) is None
    assert said(-5 * spread, spread) is None
