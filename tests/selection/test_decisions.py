"""Who teaches, in the sentence that stands first, and who stays when the student has moved."""

from dataclasses import replace

import pytest

from preceptor.ops.resampling import Interval
from preceptor.selection.decisions import cautions_about_together, choice_in_words, succession
from preceptor.selection.ranking import Ranked, Ranking


def ranked(name: str, score: float, *tied: str) -> Ranked:
    return Ranked(name, Interval(score, 0.9 * score, 1.1 * score), 0.5, tied, {}, 1.0)


def order(*candidates: Ranked) -> Ranking:
    return Ranking("grace", "lower", candidates, {}, (), 40)


@pytest.fixture
def ranking() -> Ranking:
    """Two that cannot be told from one another, and one clearly behind both."""
    return order(ranked("north", 1, "west"), ranked("west", 2, "north"), ranked("far", 9))


OWN = {name: name for name in ("north", "west", "far")}


def test_the_first_sentence_has_the_limit_and_who_cannot_be_told_apart(ranking: Ranking) -> None:
    whole = choice_in_words(ranking, ["north"], ranking.names)
    assert whole == "north was chosen from 3 candidates; it cannot be told from west"
    cheap = choice_in_words(ranking, ["far"], ["far"], ["within the limit"], 1)
    assert cheap == (
        "far was chosen from 4 candidates, of which a race dropped 1, the only one within the "
        "limit; it is clearly behind north"
    )
    pair = choice_in_words(ranking, ["west", "far"], ["west", "far"], ["within the limit"])
    assert pair.startswith(
        "west and far were chosen from 3 candidates, the 2 within the limit; west"
    )
    alone = order(ranked("north", 1))
    assert choice_in_words(alone, ["north"], ["north"]) == "north is the only candidate"


def test_a_member_that_is_clearly_behind_and_a_missing_one_are_told(ranking: Ranking) -> None:
    assert list(cautions_about_together(ranking, ["north", "west"], 2)) == []
    (behind,) = cautions_about_together(ranking, ["north", "far"], 2)
    assert behind.startswith("far is to teach beside north and is clearly behind it (grace 9 aga")
    (fewer,) = cautions_about_together(ranking, ["north"], 2, "beyond the limit: west")
    assert fewer == "2 were to teach together, and 1 teaches (beyond the limit: west)."


def test_a_teacher_goes_on_while_it_cannot_be_told_from_the_new_best(ranking: Ranking) -> None:
    stays = succession(ranking, ("west",), ("north",), OWN)
    assert stays.names == ("west",)
    assert stays.sentence.startswith("west goes on teaching, for it cannot be told from north")
    goes = succession(ranking, ("far",), ("north",), OWN)
    assert goes.names == ("north",)
    assert goes.sentence == "north takes over from far, which is clearly behind it now"
    same = succession(ranking, ("north",), ("north",), OWN)
    assert same.sentence == "north goes on teaching and has the best score as before"


def test_of_several_teachers_each_is_replaced_by_its_own_temperature(ranking: Ranking) -> None:
    both = succession(ranking, ("west", "north"), ("north", "west"), OWN)
    assert both.names == ("west", "north")  # No other order, where the same ones teach.
    family = {"north": "compass", "west": "compass", "far": "far"}
    heated = succession(ranking, ("west", "far"), ("north", "far"), family)
    assert (heated.names, heated.stayed) == (("west", "far"), {"west": "north"})
    parted = order(*(replace(each, tied=()) for each in ranking.candidates))
    cooled = succession(parted, ("west", "far"), ("north", "far"), family)
    assert (cooled.names, cooled.came) == (("north", "far"), {"north": "west"})
