"""A ranking of teachers in a report: its sentence, its table, its picture, and its JSON."""

import json
from dataclasses import asdict, replace

import pytest

from preceptor.evaluate import plots
from preceptor.evaluate.rankings import RankedTeacher, TeacherRanking
from preceptor.evaluate.report import typed

RANKING = TeacherRanking(
    moment="before the run",
    score="grace",
    better="lower",
    prompts=40,
    seed=3,
    candidates=(
        RankedTeacher("large@0.5", 1.5, 1.0, 2.25, 0.75, ("<small>",), {"g_norm": 2.0}),
        RankedTeacher("<small>", 2.0, 1.25, 3.0, 0.25, ("large@0.5",), {"g_norm": 3.0}),
        RankedTeacher("far", 9.0, 8.0, 10.0, 0.0, (), {"g_norm": 9.0}),
    ),
    chosen=("large@0.5",),
    sentences=("large@0.5 has the best score of 3.",),
    cautions=("far is terse.",),
)


def test_a_ranking_is_told_in_a_sentence_and_a_table() -> None:
    assert RANKING.headline == (
        "Before the run: large@0.5 was chosen from 3 candidates. The student of seed 3 was asked "
        "on 40 prompts; of grace, lower is better."
    )
    told = replace(RANKING, decision="far was chosen from 3, the only one within the limit")
    assert told.headline.startswith("Before the run: far was chosen from 3, the only one within")
    alone = replace(RANKING, candidates=RANKING.candidates[-1:], chosen=("far",))
    assert "far was chosen from 1 candidate. " in alone.headline
    assert list(alone.lines())[1][4] == ""
    head, first, second, last = RANKING.lines()
    assert head[2] == "grace"
    assert first == ["1", "large@0.5", "1.5", "1 to 2.25", "75 %", "2"]
    assert (second[-1], last[-1]) == ("1", "")


def test_a_rankings_picture_names_all_and_holds_no_markup_of_a_name() -> None:
    picture = str(plots.ranking(RANKING).drawn())
    assert all(name in picture for name in ("large@0.5", "&lt;small&gt;", "far"))
    assert "<small>" not in picture
    assert "grace, lower is better" in picture


def test_a_ranking_is_read_back_as_it_was_and_a_missing_field_is_refused() -> None:
    plain = json.loads(json.dumps(asdict(RANKING)))
    assert typed(TeacherRanking, plain) == RANKING
    del plain["chosen"]
    with pytest.raises(ValueError, match="has fields"):
        typed(TeacherRanking, plain)
