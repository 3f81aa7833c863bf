from typing import Any

import numpy as np
import pytest

from preceptor.evaluate.report import Undefined, Value
from preceptor.evaluate.scores import Answered
from preceptor.evaluate.transfer import transfer
from preceptor.ops.resampling import Crossed

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
TEACHER = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 0])
STUDENT = np.array([0, 0, 2, 1, 1, 1, 1, 1, 2, 0])
CONTROL = np.array([0, 0, 0, 2, 1, 2, 2, 1, 2, 1])


def answered(*rows):
    predicted = np.stack(rows)
    return Answered(predicted, predicted == LABELS, None)


def estimates(student, teacher, control):
    crossed = Crossed(len(student.hit), 10, np.random.default_rng(0))
    return transfer(student, teacher, control, crossed)


def test_every_share_by_hand():
    found = estimates(answered(STUDENT), answered(TEACHER), answered(CONTROL))
    # The teacher is right on 7 items, of which the student keeps 6 and the control 5; it errs on 3,
    # of which the student has 1 right and copies 2, while the control has 1 right and copies none.
    expected = {
        "retention": 6 / 7,
        "correction": 1 / 3,
        "agreement_on_errors": 2 / 3,
        "copied_errors": 1.0,
        "asymmetry": (1 - 0) - (6 / 7 - 5 / 7),
        "flips_won": 0.2,
        "flips_lost": 0.1,
    }
    assert set(found) == set(expected)
    for name, number in expected.items():
        value = found[name]
        assert isinstance(value, Value), name
        assert value.estimate == pytest.approx(number), name
        assert value.low is not None


def test_what_never_happens_has_a_reason_and_no_number():
    found = estimates(answered(STUDENT, STUDENT), answered(LABELS), answered(CONTROL, CONTROL))
    assert found["correction"] == Undefined("the teacher makes no error on these items")
    assert isinstance(found["asymmetry"], Undefined)
    assert isinstance(found["flips_won"], Value)


def test_without_a_control_nothing_is_compared_with_one():
    found = estimates(answered(STUDENT), answered(TEACHER), None)
    assert not {"flips_won", "asymmetry"} & set(found)


def test_a_student_that_never_differs_from_its_control_may_still_copy_more():
    same = answered(STUDENT, STUDENT)
    found = estimates(same, answered(TEACHER), same)
    asymmetry = found["asymmetry"]
    assert isinstance(asymmetry, Value)
    assert asymmetry.estimate == 0
    # Square-and-add of four rates with limits of their own, two of each kind.
    sides: list[Any] = [found["copied_errors"], found["retention"]]
    parts = [(each.high - each.estimate, each.estimate - each.low) for each in sides]
    expected = np.sqrt(sum(up**2 + down**2 for up, down in parts))
    assert asymmetry.high == pytest.approx(expected)
    assert asymmetry.low == pytest.approx(-expected)
