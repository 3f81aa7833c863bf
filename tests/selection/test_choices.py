from dataclasses import replace

import numpy as np
import pytest

from preceptor.errors import DataError
from preceptor.selection.choices import (
    best,
    best_of_each,
    best_temperature,
    best_within,
    ensemble,
    moved,
)
from preceptor.selection.grace import Grace
from preceptor.selection.ranking import Ranking, rank
from tests.selection.random_features import isotropic


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    """A and B cannot be told apart, C is clearly behind them, and D behind C."""
    spread = np.exp(0.4 * np.random.default_rng(0).normal(size=120))
    sizes = {"a": 1.0, "b": 1.005, "c": 1.4, "d": 2.0}
    given = {
        name: isotropic(120, 3, 12, alike=0.3, spread=size * spread, seed=seed)
        for seed, (name, size) in enumerate(sizes.items())
    }
    ranking = rank(given)
    assert set(ranking.names[:2]) == {"a", "b"}
    assert ranking.names[2:] == ("c", "d")
    return ranking


def test_the_best_names_whom_it_cannot_be_told_from(ranking: Ranking) -> None:
    choice = best(ranking)
    first, second = ranking.names[:2]
    assert (choice.name, choice.tied, choice.among) == (first, (second,), 4)
    assert choice.score == ranking.best.score.estimate
    assert choice.sentence.startswith(f"{first} has the best score of 4, but cannot be told from")
    assert best(ranking, ["d", "c"]).sentence == "c is the best of 2."
    assert best(ranking, ["d"]).sentence == "d is the only one admitted."
    after = best(ranking, ["d", "c"], dropped=2).sentence
    assert after == "c is the best of 4, of which a race dropped 2."
    alone = best(ranking, ["d"], dropped=3).sentence
    assert alone == "d is the best of 4, of which a race dropped 3."


def test_the_best_within_a_limit_is_the_best_of_the_cheap(ranking: Ranking) -> None:
    sizes = {"a": 7e9, "b": 14e9, "c": 1e9, "d": 1.5e9}
    assert best_within(ranking, sizes, 3e9).name == "c"
    assert best_within(ranking, sizes, 7e9).name == "a"
    assert best_within(ranking, sizes, 7e9).tied == ()
    assert best_within(ranking, sizes, 1e12).name == ranking.best.name
    with pytest.raises(DataError, match=r"the cheapest, c, costs 1e\+09"):
        best_within(ranking, sizes, 5e8)
    with pytest.raises(DataError, match="b has no cost"):
        best_within(ranking, {"a": 1, "c": 2, "d": 3}, 2)


def test_each_family_has_its_best(ranking: Ranking) -> None:
    found = best_of_each(ranking, {"a": "first", "d": "first", "b": "other", "c": "other"})
    assert {family: choice.name for family, choice in found.items()} == {"first": "a", "other": "b"}
    assert all(choice.tied == () for choice in found.values())
    with pytest.raises(DataError, match="has no family"):
        best_of_each(ranking, {"a": "first"})


def test_the_best_temperature_is_where_copies_and_size_are_balanced() -> None:
    # Cold text repeats itself, hot text has large gradients.
    laws = {0.3: (0.97, 1.0), 0.6: (0.8, 1.1), 0.8: (0.5, 1.2), 1.0: (0.3, 1.8), 1.2: (0.2, 2.5)}
    given = {
        f"at {temperature}": isotropic(100, 4, 64, alike=alike, spread=size, seed=9)
        for temperature, (alike, size) in laws.items()
    }
    ranking = rank({**given, "another": isotropic(100, 4, 64, spread=0.1)}, Grace())
    temperatures = {f"at {temperature}": temperature for temperature in laws}
    temperature, choice = best_temperature(ranking, temperatures)
    assert (temperature, choice.name, choice.among) == (0.8, "at 0.8", 5)
    with pytest.raises(DataError, match=r"at 0.9 is to be chosen from: it is not ranked"):
        best_temperature(ranking, {"at 0.9": 0.9})


def test_an_ensemble_is_of_the_top_scorers(ranking: Ranking) -> None:
    assert ensemble(ranking, 3) == ranking.names[:3]
    assert ensemble(ranking, 3, ties_alone=True) == ranking.names[:2]
    assert ensemble(ranking, 1, ties_alone=True) == ranking.names[:1]
    assert ensemble(ranking, 9) == ranking.names
    assert ensemble(ranking, 2, among=["d", "c"]) == ("c", "d")
    family = {"a": "warm", "b": "warm", "c": "cold", "d": "cold"}
    assert ensemble(ranking, 3, family=family) == (ranking.names[0], "c")
    with pytest.raises(DataError, match="Ask for one at least"):
        ensemble(ranking, 0)


def test_a_choice_among_nobody_gets_a_sentence(ranking: Ranking) -> None:
    with pytest.raises(DataError, match="nobody was admitted"):
        best(ranking, [])
    assert replace(best(ranking), tied=()).sentence.endswith("is the best of 4.")


def test_a_student_that_moved_tells_whether_its_teacher_should_change(ranking: Ranking) -> None:
    same = moved(ranking, ranking)
    assert (same.spearman, same.before, same.clearly) == (1, ranking.best.name, False)
    first, second, third, last = ranking.candidates
    swapped = replace(ranking, candidates=(second, first, third, last))
    # 1 - 6 (1 + 1) / (4 (16 - 1)), and the two were tied.
    assert moved(ranking, swapped).spearman == pytest.approx(0.8)
    assert not moved(ranking, swapped).clearly
    assert moved(ranking, swapped).sentence.endswith("): no reason to change the teacher.")
    assert f"has the best score as before, and cannot be told from {second.name}" in same.sentence
    alone = replace(ranking, candidates=(replace(first, tied=()), second, third, last))
    assert f"{first.name} is the best as before" in moved(alone, alone).sentence
    turned = replace(ranking, candidates=tuple(reversed(ranking.candidates)))
    found = moved(ranking, turned)
    assert (found.spearman, found.after, found.clearly) == (-1, "d", True)
    with pytest.raises(DataError, match="by g_norm"):
        moved(ranking, replace(ranking, score="g_norm"))
