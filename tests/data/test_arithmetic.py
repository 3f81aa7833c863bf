"""Problems whose steps are right, and whose parts are apart."""

import re

import pytest

from preceptor.data.arithmetic import Arithmetic, final_answer
from preceptor.errors import DataError


@pytest.mark.parametrize("problems", [Arithmetic(), Arithmetic(4, 199), Arithmetic(1, 9, "+")])
def test_every_step_is_what_python_says(problems: Arithmetic) -> None:
    for row in problems.rows(40):
        assert row.prompt is not None
        assert row.completion is not None
        result = eval(row.prompt.rstrip("="))
        *steps, last = row.completion.splitlines()
        assert last == f"#### {result}"
        assert row.answer == final_answer(row.completion) == str(result)
        assert len(steps) == problems.operations
        for step in steps:
            left, right = step.split("=")
            assert eval(left) == int(right)
        numbers = [int(number) for number in re.findall(r"\d+", row.prompt + row.completion)]
        assert max(numbers) <= problems.largest


def test_parts_share_no_problem_whatever_the_seeds() -> None:
    problems = Arithmetic()
    train, validation, test = (
        problems.rows(300),
        problems.rows(300, "validation", 1),
        problems.rows(300, "test", 2),
    )
    sets = [{row.prompt for row in part} for part in (train, validation, test)]
    assert [len(found) for found in sets] == [300] * 3
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]


def test_more_rows_begin_with_the_same_ones() -> None:
    few, many = Arithmetic().rows(10), Arithmetic().rows(40)
    assert tuple(few) == many[:10]
    assert Arithmetic().rows(10, seed=1).fingerprint != few.fingerprint


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(DataError, match=r"only .* different ones"):
        Arithmetic(1, 9, "+").rows(1000)
    with pytest.raises(DataError, match="operations=0"):
        Arithmetic(0)
    assert final_answer("no idea") is None
    assert final_answer("####") is None
