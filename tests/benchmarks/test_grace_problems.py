import re

import numpy as np
import pytest

from benchmarks import grace_problems
from preceptor.data.arithmetic import final_answer

ROWS = grace_problems.problems(40, "validation")


@pytest.mark.parametrize("name", sorted(grace_problems.STYLES))
def test_every_style_ends_where_the_verifier_looks_for_the_answer(name: str):
    style = grace_problems.STYLES[name]
    for row in grace_problems.solved(ROWS, style, 0.0, 3):
        assert row.completion is not None
        assert final_answer(row.completion) == ROWS[row.number].answer


@pytest.mark.parametrize("name", sorted(grace_problems.STYLES))
def test_every_working_fits_and_is_told_in_known_characters(name: str):
    rows = grace_problems.solved(ROWS, grace_problems.STYLES[name], 0.0, 3)
    told = [f"{row.prompt}{row.completion}" for row in rows]
    assert max(map(len, told)) + 2 <= grace_problems.LONGEST  # A beginning and an end.
    assert set("".join(told)) <= set(grace_problems.ALPHABET)


def test_a_mistake_changes_one_sum_and_is_carried_on():
    draw = np.random.default_rng(0)
    for row in ROWS:
        assert row.prompt is not None
        told = grace_problems.mistaken(grace_problems.working(row.prompt), draw)
        wrong = [at for at, (step, value) in enumerate(told) if step.result != value]
        assert len(wrong) == 1
        lefts = [step.left for step, _ in told[1:]]
        assert lefts == [value for _, value in told[:-1]]
        assert all(0 <= value <= 9 for _, value in told)


def test_a_share_of_the_workings_is_wrong():
    many = grace_problems.problems(400, "train")
    rows = grace_problems.solved(many, grace_problems.brief, 0.3, 1)
    good = grace_problems.right(many, [[row.completion or ""] for row in rows]).mean()
    # A mistake in the chain always changes the answer, for the later sums are one-to-one.
    assert good == pytest.approx(0.7, abs=0.07)


def test_general_text_holds_every_character_of_the_workings_and_chains_of_two_lengths():
    general = [row.text or "" for row in grace_problems.general(400, 0)]
    for style in grace_problems.STYLES.values():
        workings = grace_problems.solved(ROWS, style, 0.0, 3)
        assert set("".join(row.completion or "" for row in workings)) <= set("".join(general))
    begins = [re.match(r"[\d+-]+=", text) for text in general if "####" in text]
    assert {len(found[0]) for found in begins if found} == {len("1+2-3="), len("1+2-3+4=")}


def test_nothing_that_is_tested_is_in_general_text():
    tested = {row.prompt for row in grace_problems.problems(300, "test")}
    texts = " ".join(row.text or "" for row in grace_problems.general(3000, 5))
    assert not any((prompt or "") in texts for prompt in tested)


def test_an_empty_response_is_trained_on_as_a_line_break():
    rows = grace_problems.answered(ROWS[:2], [["", "x"], ["y", "z"]], first=1)
    assert [row.completion for row in rows] == ["\n", "y"]
    assert [row.number for row in rows] == [0, 1]
