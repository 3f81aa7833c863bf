"""MiniLLM's returns, by hand."""

import numpy as np
import pytest

from preceptor.errors import RecipeError
from preceptor.synthesis.returns import Returns

LOG_P = [np.log([0.5, 0.2, 0.1]), np.log([0.9])]
LOG_Q = [np.log([0.25, 0.4, 0.1]), np.log([0.3])]
RAW = Returns(discount=1, scale=1, own=True, normalise=False, whiten=False)
TWO = np.log(2)


def test_a_return_adds_up_what_comes_from_its_token_on() -> None:
    first, second = RAW.of(LOG_P, LOG_Q)
    assert first == pytest.approx([0, -TWO, 0], abs=1e-6)
    assert second == pytest.approx([np.log(3)])


def test_the_papers_return_leaves_a_tokens_own_reward_out_and_divides_by_what_remains() -> None:
    paper = Returns(discount=1, scale=1, whiten=False)
    first, second = paper.of(LOG_P, LOG_Q)
    assert first == pytest.approx([-TWO / 2, 0, 0], abs=1e-6)
    assert second == pytest.approx([0])


def test_the_released_codes_return_discounts_scales_and_divides_by_the_length_that_is_left() -> (
    None
):
    released = Returns(own=True, whiten=False)
    first, second = released.of(LOG_P, LOG_Q)
    r = np.array([TWO, -TWO, 0]) / 0.5
    by_hand = [(r[0] + 0.95 * r[1]) / 3, r[1] / 2, 0]
    assert first == pytest.approx(by_hand, abs=1e-6)
    assert second == pytest.approx([2 * np.log(3)])


def test_rewards_are_cut_after_they_were_scaled() -> None:
    cut = Returns(0, scale=0.5, clip=1.5, own=True, normalise=False, whiten=False)
    (first,) = cut.of([np.array([0.0, -9.0, 0.5])], [np.array([-9.0, 0.0, 0.0])])
    assert first.tolist() == [1.5, -1.5, 1.0]


def test_whitening_is_over_all_tokens_and_knows_no_padding() -> None:
    plain = Returns(whiten=False).of(LOG_P, LOG_Q)
    white = Returns().of(LOG_P, LOG_Q)
    flat = np.concatenate(plain)
    expected = (flat - flat.mean()) / flat.std()
    np.testing.assert_allclose(np.concatenate(white), expected, rtol=1e-5)
    assert [len(each) for each in white] == [3, 1]


def test_nothing_has_no_returns_and_one_token_is_no_spread() -> None:
    assert Returns().of([], []) == []
    assert Returns(own=True).of([np.array([-1.0])], [np.array([-2.0])])[0].tolist() == [0]
    assert [len(each) for each in Returns().of([np.array([])], [np.array([])])] == [0]


def test_numbers_out_of_range_are_refused() -> None:
    for discount, scale, clip in ((1.5, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, -1.0)):
        with pytest.raises(RecipeError, match="out of range"):
            Returns(discount, scale, clip)
