"""Verifiers of written answers."""

import pytest

from preceptor.data.verifiers import verifier


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
