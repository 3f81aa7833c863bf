from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, f1_score

from preceptor.ops import linearised

ITEMS = 40


def answers() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    first = generator.integers(0, 4, ITEMS)
    return first, np.where(generator.random(ITEMS) < 0.6, first, generator.integers(0, 5, ITEMS))


def numbers() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    first = generator.normal(size=ITEMS)
    return first, first + generator.normal(size=ITEMS)


def by_weight(measure: Callable[[np.ndarray], float], step: float = 1e-4) -> np.ndarray:
    """measure + items x its growth with each item's weight, by small steps."""
    found = []
    for moved in np.eye(ITEMS) * step:
        found.append((measure(1 + moved) - measure(1 - moved)) / (2 * step))
    return measure(np.ones(ITEMS)) + ITEMS * np.array(found)


def highest_kappa(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> float:
    a, b = (np.average(side, weights=weight) for side in (first, second))
    by_chance = a * b + (1 - a) * (1 - b)
    return float((1 - abs(a - b) - by_chance) / (1 - by_chance))


def test_what_an_item_adds_is_how_the_measure_grows_with_its_weight() -> None:
    one, two = answers()
    x, y = numbers()
    right, wrong = one == 0, two == 0
    expected = {
        "kappa": by_weight(lambda w: float(cohen_kappa_score(one, two, sample_weight=w))),
        "macro_f1": by_weight(
            lambda w: float(f1_score(two, one, average="macro", sample_weight=w))
        ),
        "correlation": by_weight(lambda w: _correlation(x, y, w)),
        "kappa_bound": by_weight(lambda w: highest_kappa(right, wrong, w)),
    }
    found = {
        "kappa": linearised.kappa(one, two),
        "macro_f1": linearised.macro_f1(one, two),
        "correlation": linearised.correlation(x, y),
        "kappa_bound": linearised.kappa_bound(right, wrong),
    }
    for name, column in found.items():
        np.testing.assert_allclose(column, expected[name], atol=1e-5, err_msg=name)


def _correlation(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    spread = np.cov(x, y, aweights=weight)
    return float(spread[0, 1] / np.sqrt(spread[0, 0] * spread[1, 1]))


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.asarray(spearmanr(x, y))[0])


def test_a_weight_moves_the_ranks_of_all_other_items_too() -> None:
    x, y = (np.round(side, 1) for side in numbers())  # With ties.
    column = linearised.rank_correlation(x, y)
    assert column.mean() == pytest.approx(_spearman(x, y))
    copies = 400
    for item in range(0, ITEMS, 7):
        often = np.full(ITEMS, copies)
        often[item] += 1
        grown = _spearman(x.repeat(often), y.repeat(often)) - _spearman(x, y)
        assert column[item] - column.mean() == pytest.approx(ITEMS * copies * grown, abs=0.01)


def test_the_spread_is_the_bootstraps() -> None:
    generator = np.random.default_rng(2)
    one, two = answers()
    drawn = [
        cohen_kappa_score(one[rows], two[rows])
        for rows in generator.integers(0, ITEMS, (600, ITEMS))
    ]
    spread = linearised.kappa(one, two).std() / np.sqrt(ITEMS)
    assert spread == pytest.approx(np.std(drawn), rel=0.1)


def test_a_measure_that_is_none_stays_none() -> None:
    same, rising = np.zeros(4), np.arange(4.0)
    assert np.isnan(linearised.kappa(same, same)).all()
    assert np.isnan(linearised.kappa_bound(same == 0, same == 0)).all()
    assert np.isnan(linearised.correlation(rising, same)).all()
    assert np.isnan(linearised.rank_correlation(same, rising)).all()
