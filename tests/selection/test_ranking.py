import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from preceptor.errors import DataError, NeedsError
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.means import GNorm, MeanLength, MeanLoss
from preceptor.selection.ranking import BESIDE, best_shares, rank
from tests.selection.random_features import isotropic, probe


def candidates(*scales: float, prompts: int = 80) -> dict[str, Features]:
    """Candidates that share what is hard about a prompt, and differ by the size of gradients."""
    spread = np.exp(0.5 * np.random.default_rng(0).normal(size=prompts))
    return {
        f"times {scale}": isotropic(prompts, 3, 12, alike=0.3, spread=scale * spread, seed=seed)
        for seed, scale in enumerate(scales)
    }


def test_the_lowest_grace_is_first_and_clear_differences_are_told() -> None:
    ranking = rank(candidates(1.5, 1.0, 1.02, 3.0))
    assert ranking.names[2:] == ("times 1.5", "times 3.0")
    assert set(ranking.names[:2]) == {"times 1.0", "times 1.02"}
    first, second, third, _ = ranking.candidates
    assert first.tied == (second.name,)
    assert second.tied == (first.name,)
    assert third.tied == ()
    assert ranking.score == "grace"
    assert first.score.low < first.score.estimate < first.score.high
    assert first.probability_best + second.probability_best == pytest.approx(1)
    assert ranking.prompts == 80


def test_a_paired_difference_is_narrower_than_its_sides() -> None:
    ranking = rank(candidates(1.0, 1.3))
    first, second = ranking.candidates
    difference = ranking.difference(first.name, second.name)
    assert difference.estimate == pytest.approx(first.score.estimate - second.score.estimate)
    assert difference.high - difference.low < 0.8 * (second.score.high - second.score.low)
    assert difference.high < 0
    back = ranking.difference(second.name, first.name)
    assert (back.low, back.high) == (-difference.high, -difference.low)
    with pytest.raises(DataError, match="times 9"):
        ranking.difference("times 9", first.name)


def test_an_interval_ends_where_no_score_can_be() -> None:
    # So few prompts of so different weight that draws of influences overshoot.
    spread = np.exp(1.5 * np.random.default_rng(0).normal(size=12))
    ranking = rank({"few": isotropic(12, 1, 8, alike=0.3, spread=spread, seed=0)})
    assert ranking.best.score.low == 0.0 < ranking.best.score.estimate


def test_where_higher_is_better_the_highest_is_first() -> None:
    given = candidates(1.0, 1.0)
    long = replace(given["times 1.0"], lengths=np.full(240, 90))
    assert rank({"short": given["times 1.0"], "long": long}, MeanLength()).names[0] == "long"


def test_the_same_text_twice_is_a_tie_and_shares_the_first_place() -> None:
    only = candidates(1.0)["times 1.0"]
    ranking = rank({"one": only, "again": only})
    assert [each.probability_best for each in ranking.candidates] == [0.5, 0.5]
    assert ranking.best.tied == ("again",)
    assert ranking.difference("one", "again") == (0, 0, 0)


def test_the_order_of_candidates_and_other_candidates_change_no_number() -> None:
    given = candidates(1.5, 1.0, 1.02)
    ranking, turned = rank(given), rank(dict(reversed(given.items())))
    assert ranking.names == turned.names
    assert [c.score for c in ranking.candidates] == [c.score for c in turned.candidates]
    fewer = rank({name: given[name] for name in ranking.names[:2]})
    assert fewer.difference(*fewer.names) == ranking.difference(*fewer.names)


def test_further_scores_stand_beside_and_all_of_it_is_json() -> None:
    given = candidates(1.0, 2.0)
    ranking = rank(given)
    assert set(ranking.best.beside) == {score.name for score in BESIDE}
    assert ranking.best.beside["g_norm"] == GNorm().value(given["times 1.0"])
    assert ranking.best.published_scale == 12 / 10_000
    told = json.loads(json.dumps(asdict(ranking)))
    assert told["candidates"][0]["name"] == "times 1.0"
    assert told["differences"]["times 1.0"]["times 2.0"][2] < 0


def test_a_ranking_of_one_has_its_interval() -> None:
    ranking = rank(candidates(1.0))
    assert ranking.best.probability_best == 1
    assert ranking.best.tied == ()


def test_what_cannot_be_compared_is_refused_by_name() -> None:
    given = candidates(1.0, 2.0)
    moved = replace(given["times 2.0"], probe=probe(12, student="another"))
    with pytest.raises(NeedsError, match=r"times 2.0 has student another"):
        rank({**given, "times 2.0": moved})
    fewer = given["times 2.0"].of(np.arange(70))
    with pytest.raises(NeedsError, match=r"times 2.0 answers 70 prompts"):
        rank({**given, "times 2.0": fewer})
    with pytest.raises(DataError, match="nobody to rank"):
        rank({})


def test_cautions_come_with_the_ranking() -> None:
    given = candidates(1.0, 2.0)
    repeating = replace(given["times 1.0"], texts=np.repeat(np.arange(80), 3))
    ranking = rank({**given, "times 1.0": repeating})
    assert any(sentence.startswith("times 1.0: 67 %") for sentence in ranking.cautions)


def test_any_score_ranks_with_its_own_interval() -> None:
    given = {
        name: replace(each, losses=np.full(240, loss, np.float32))
        for (name, each), loss in zip(candidates(1.0, 2.0).items(), (0.9, 0.4), strict=True)
    }
    ranking = rank(given, MeanLoss(), beside=(Grace(),))
    assert ranking.names == ("times 2.0", "times 1.0")
    assert ranking.best.score == pytest.approx((0.4, 0.4, 0.4))
    assert set(ranking.best.beside) == {"grace"}


def test_shares_of_first_places_add_up() -> None:
    drawn = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 1.0], [0.0, 5.0, 0.0]])
    np.testing.assert_allclose(best_shares(drawn, "lower"), [0.5, 1 / 6, 1 / 3])
    np.testing.assert_allclose(best_shares(drawn, "higher"), [1 / 3, 1 / 3, 1 / 3])
