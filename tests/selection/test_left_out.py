import numpy as np
import pytest

from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.leverage import LeverageRatio
from preceptor.selection.ranking import EVERY_SCORE
from preceptor.selection.score import Score
from preceptor.selection.spectrum import GVendi
from tests.selection.random_features import isotropic, ragged

EXACT = [
    *(score for score in EVERY_SCORE if not isinstance(score, GVendi)),
    Grace(mode="released", part="variance"),
    Grace(mode="released", part="bias"),
    Grace(folds=3, smoothing=0.1, seed=5),
    LeverageRatio(Grace(mode="released")),
]


def one_by_one(score: Score, features: Features) -> np.ndarray:
    count = len(features.every_prompt)
    return np.array([score.value(features, 1.0 - np.eye(count)[i]) for i in range(count)])


@pytest.mark.parametrize("score", EXACT, ids=repr)
@pytest.mark.parametrize("shape", [(14, 30), (25, 6)], ids=["wide", "tall"])
def test_each_prompt_left_out_is_the_score_without_it(score: Score, shape: tuple[int, int]) -> None:
    features = ragged(*shape)
    expected = one_by_one(score, features)
    np.testing.assert_allclose(score.left_out(features), expected, rtol=1e-8)


def test_a_fold_of_a_single_prompt_goes_with_it() -> None:
    features = ragged(8, 3)
    for part in ("whole", "variance", "bias"):
        score = Grace(folds=8, part=part)
        np.testing.assert_allclose(score.left_out(features), one_by_one(score, features), rtol=1e-8)


def test_g_vendi_without_a_prompt_is_right_to_first_order() -> None:
    for prompts, error in ((40, 0.15), (160, 0.04)):
        features = isotropic(prompts, 3, 12, alike=0.5, spectrum=1 / np.arange(1, 13))
        exact, first_order = one_by_one(GVendi(), features), GVendi().left_out(features)
        moved = exact - GVendi().value(features)
        assert np.abs(first_order - exact).max() < error * np.abs(moved).max()
        assert first_order.std() == pytest.approx(exact.std(), rel=error)


def test_more_rows_held_out_than_dimensions_change_nothing() -> None:
    features = ragged(90, 4)
    for part in ("whole", "variance", "bias"):
        score = Grace(folds=2, part=part)
        np.testing.assert_allclose(score.left_out(features), one_by_one(score, features), rtol=1e-8)
