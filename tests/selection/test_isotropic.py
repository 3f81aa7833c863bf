"""What the score responds to, where the truth is known: gradients drawn from a normal law.

The figures are those of a simulation apart from ours at 512 prompts x 4 responses x 512 numbers.
Only dimension over rows matters, so that 128 x 4 x 128 shows the same.
"""

from dataclasses import replace

import numpy as np
import pytest

from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.leverage import LeverageRatio
from preceptor.selection.spectrum import GVendi
from tests.selection.random_features import isotropic

D = 128
FALLING = 1 / np.sqrt(np.arange(1, D + 1))  # Eigenvalues 1 / j.
ALIKE = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def of_equal_norm(features: Features) -> Features:
    h = features.sketches
    return replace(features, sketches=h / np.linalg.norm(h, axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("alike", "ratio"), [*zip(ALIKE, (1.38, 1.48, 1.69, 2.16, 2.69, 4.0, 6.1, 17.8), strict=True)]
)
def test_grace_is_g_norm_times_a_penalty_for_responses_alike(alike: float, ratio: float) -> None:
    found = [LeverageRatio().value(isotropic(D, 4, D, alike=alike, seed=s)) for s in range(2)]
    assert np.mean(found) == pytest.approx(ratio, rel=0.02 if alike < 0.9 else 0.06)


@pytest.mark.parametrize(
    ("alike", "ratio"), [*zip(ALIKE, (1.39, 1.49, 1.70, 2.17, 2.69, 3.96, 6.0, 14.5), strict=True)]
)
def test_the_spectrum_hardly_shows(alike: float, ratio: float) -> None:
    of = [of_equal_norm(isotropic(D, 4, D, alike=alike, spectrum=FALLING, seed=s)) for s in (0, 1)]
    found = [LeverageRatio().value(features) for features in of]
    assert np.mean(found) == pytest.approx(ratio, rel=0.03 if alike < 0.9 else 0.14)
    flat = isotropic(D, 4, D, alike=alike)
    assert GVendi().value(flat) - GVendi().value(of[0]) > 0.7  # 1.3 at 512 numbers


def test_a_look_at_fewer_prompts_and_as_much_fewer_numbers_shows_the_same_penalty() -> None:
    features = isotropic(256, 4, 128, alike=0.6)
    whole = LeverageRatio().value(features)
    for prompts, dimension in ((128, 64), (64, 32)):
        some = features.of(np.arange(prompts))
        assert LeverageRatio().value(some.narrowed(dimension)) == pytest.approx(whole, rel=0.05)
        # Without narrowing the penalty is that of few rows.
        assert LeverageRatio().value(some) > 1.3 * whole


def test_the_number_of_folds_matters_until_about_six() -> None:
    features = isotropic(D, 4, D, alike=0.7, spectrum=FALLING)
    many = Grace(folds=64).value(features)
    found = [Grace(folds=count).value(features) / many for count in (2, 4, 6, 10, 20)]
    np.testing.assert_allclose(found, [1.93, 1.24, 1.14, 1.07, 1.03], rtol=0.05)


def test_the_seed_of_the_folds_moves_half_a_per_cent() -> None:
    features = isotropic(256, 4, D, alike=0.5)
    found = np.array([Grace(seed=seed).value(features) for seed in range(6)])
    assert found.std() / found.mean() < 0.005


def test_smoothing_matters_from_a_hundredth_on() -> None:
    features = isotropic(D, 4, D, alike=0.7, spectrum=FALLING)
    usual = Grace().value(features)
    for nu, share in ((1e-5, 1.01), (1e-2, 0.9), (1e-1, 0.52)):
        assert Grace(smoothing=nu).value(features) / usual == pytest.approx(share, abs=0.06)


def test_one_response_a_prompt_and_fewer_than_dimensions_is_nothing_but_smoothing() -> None:
    features = isotropic(40, 1, 64)
    score, tenth = (Grace(smoothing=nu).value(features) for nu in (1e-3, 1e-4))
    assert score > 1e5
    assert tenth == pytest.approx(10 * score, rel=0.01)


def test_copies_of_one_response_send_the_score_to_the_ceiling() -> None:
    once = isotropic(100, 1, 128, seed=3)
    copied = replace(isotropic(100, 4, 128), sketches=np.repeat(once.sketches, 4, axis=0))
    apart = isotropic(100, 4, 128, seed=4)
    assert Grace().value(copied) > 100 * Grace().value(apart)
