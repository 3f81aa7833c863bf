"""Verifiers of written answers."""

import pytest

from preceptor.data.verifiers import final_answer, verifier
from preceptor.errors import DataError


@pytest.mark.parametrize(
    ("written", "reference", "right"),
    [
        ("7 + 8 = 15\n#### 15", "15", True),
        ("#### 1,250", "1250.0", True),
        ("15 is not it #### 16", "15", False),
        ("no number at all", "15", False),
        ("#### -3", "3", False),
        ("#### 4 then 9", "reasons 4 #### 9", True),
    ],
)
def test_the_last_number_after_the_last_mark_counts(
    written: str, reference: str, right: bool
) -> None:
    assert verifier("numeric", after="####")(written, reference) is right


def test_exact_answers_differ_by_blanks_at_the_ends_alone() -> None:
    same = verifier("exact")
    assert same(" Paris\n", "Paris")
    assert not same("Paris.", "Paris")
    assert not same("", "Paris")


@pytest.mark.parametrize(
    ("written", "reference", "right"),
    [
        ("First I say (A). No: the answer is (B)", "B", True),
        ("the answer is ( B )", "the answer is (B)", True),
        ("the answer is (A)", "B", False),
        ("B", "B", False),
    ],
)
def test_what_a_pattern_finds_last_is_the_answer(written: str, reference: str, right: bool) -> None:
    pattern = r"answer is \(\s*([A-D])\s*\)"
    assert verifier("regex", pattern=pattern)(written, reference) is right
    expected = "" if written == "B" else written.rpartition("(")[2].strip(" )")
    assert final_answer(written, "regex", pattern=pattern) == expected


@pytest.mark.parametrize("pattern", [None, "(open"])
def test_a_pattern_that_is_none_gets_a_sentence(pattern: str | None) -> None:
    with pytest.raises(DataError, match="regular expression"):
        verifier("regex", pattern=pattern)


def test_final_answers_are_those_that_verifiers_compare() -> None:
    assert final_answer("7 #### 1,250.0", "numeric", "####") == final_answer("1250", "numeric")
    assert final_answer(" yes ", "exact") == "yes"
    assert final_answer("none", "numeric") == ""
