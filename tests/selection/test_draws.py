import numpy as np
import pytest

from preceptor.errors import DataError
from preceptor.selection.draws import Draws, standard_error
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.means import GNorm, MeanLoss
from tests.selection.random_features import isotropic, ragged


def fresh(seed: int, dimension: int, prompts: int = 64) -> Features:
    spread = np.exp(0.3 * np.random.default_rng(10_000 + seed).normal(size=prompts))
    return isotropic(prompts, 4, dimension, alike=0.5, seed=seed, spread=spread)


def plain_bootstrap(features: Features, draws: int = 60) -> np.ndarray:
    count = len(features.every_prompt)
    weights = np.random.default_rng(0).multinomial(count, np.ones(count) / count, size=draws)
    return np.array([Grace().value(features, row.astype(np.float64)) for row in weights])


def test_of_a_mean_it_is_the_textbooks_standard_error() -> None:
    generator = np.random.default_rng(0)
    losses = generator.gamma(2, size=50).astype(np.float32)
    features = isotropic(50, 1, 3, losses=losses)
    expected = losses.astype(np.float64).std(ddof=1) / np.sqrt(50)
    assert standard_error(MeanLoss().left_out(features)) == pytest.approx(expected, rel=1e-6)
    drawn = Draws(50, 20_000).scores(MeanLoss(), features)
    assert drawn.std() == pytest.approx(expected, rel=0.03)
    assert drawn.mean() == pytest.approx(MeanLoss().value(features), abs=0.05 * expected)


@pytest.mark.parametrize("dimension", [8, 32, 64])
def test_the_spread_is_that_over_fresh_prompts(dimension: int) -> None:
    several = [fresh(seed, dimension) for seed in range(80)]
    true = np.std([Grace().value(features) for features in several], ddof=1)
    told = np.mean([standard_error(Grace().left_out(features)) for features in several[:20]])
    assert told == pytest.approx(true, rel=0.25)


def test_where_rows_are_many_it_is_the_plain_bootstrap() -> None:
    features = fresh(1, 6, prompts=150)
    drawn = plain_bootstrap(features, draws=400)
    told = standard_error(Grace().left_out(features))
    assert told == pytest.approx(drawn.std(), rel=0.12)


def test_where_rows_are_few_the_plain_bootstrap_is_far_off_and_it_is_not() -> None:
    features = fresh(1, 64)
    drawn = plain_bootstrap(features)
    value, told = Grace().value(features), standard_error(Grace().left_out(features))
    assert drawn.mean() > 1.4 * value
    assert drawn.std() > 1.6 * told
    ours = Draws(64).scores(Grace(), features)
    assert ours.mean() == pytest.approx(value, rel=0.01)
    assert ours.std() == pytest.approx(told, rel=0.05)


def test_nineteen_of_twenty_intervals_of_a_difference_hold_the_truth() -> None:
    # Two candidates of the same law that share what is hard about a prompt.
    held, rounds, draws = 0, 60, Draws(48)
    for seed in range(rounds):
        generator = np.random.default_rng(seed)
        spread = np.exp(0.4 * generator.normal(size=48))
        pair = [isotropic(48, 2, 16, alike=0.4, seed=5 * seed + i, spread=spread) for i in range(2)]
        drawn = draws.scores(Grace(), pair[0]) - draws.scores(Grace(), pair[1])
        low, high = np.quantile(drawn, [0.025, 0.975])
        held += low <= 0 <= high
    assert 0.89 <= held / rounds <= 1


def test_what_both_find_hard_costs_the_pair_nothing() -> None:
    spread = np.exp(0.8 * np.random.default_rng(3).normal(size=200))
    first, second = (isotropic(200, 2, 8, alike=0.9, seed=7, spread=spread) for _ in range(2))
    second.sketches[:] *= 1.1
    draws = Draws(200)
    one, other = (draws.scores(GNorm(), features) for features in (first, second))
    assert (other - one).std() < 0.3 * one.std()


def test_the_same_seed_draws_the_same_and_one_prompt_draws_nothing() -> None:
    features = ragged(30, 4)
    first, second = (Draws(30, 50, seed=4).scores(Grace(), features) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, Draws(30, 50, seed=5).scores(Grace(), features))
    with pytest.raises(DataError, match="1 prompt"):
        Draws(1)
