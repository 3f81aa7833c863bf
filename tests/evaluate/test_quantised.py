from typing import Any

import numpy as np
import pytest

from preceptor.evaluate.quantised import in_a_sentence, quantised
from preceptor.evaluate.report import Undefined, Value
from preceptor.ops.proportions import tango
from preceptor.ops.resampling import Crossed, paired_bootstrap


def crossed(seeds, items):
    return Crossed(seeds, items, np.random.default_rng(0))


def hits(rate, seeds=3, items=400, seed=0):
    return np.random.default_rng(seed).random((seeds, items)) < rate


def test_the_difference_of_changes_is_by_hand():
    before = {"distilled": np.array([[1, 1, 1, 0]]), "control": np.array([[1, 1, 0, 0]])}
    after = {"distilled": np.array([[1, 0, 0, 0]]), "control": np.array([[1, 1, 1, 0]])}
    found = quantised(
        before, after, crossed(1, 4), student="distilled", control="control", unit="fraction"
    )
    assert found.before["distilled"].estimate == 0.75
    assert found.after["distilled"].estimate == 0.25
    assert found.change["distilled"].estimate == -0.5
    assert found.change["control"].estimate == 0.25
    assert isinstance(found.more, Value)
    assert found.more.estimate == -0.75


def test_a_student_that_loses_more_is_said_to_with_the_interval_of_the_paired_bootstrap():
    before = {"distilled": hits(0.9), "control": hits(0.8, seed=1)}
    after = {"distilled": before["distilled"] & hits(0.8, seed=2), "control": before["control"]}
    found = quantised(
        before, after, crossed(3, 400), student="distilled", control="control", unit="fraction"
    )
    assert isinstance(found.more, Value)
    assert "the student loses more than its control" in in_a_sentence(found)
    both = paired_bootstrap(after["distilled"], before["distilled"], np.random.default_rng(0))
    more = found.more
    assert (more.estimate, more.low, more.high) == pytest.approx(tuple(both))
    still = found.change["control"]
    assert (still.estimate, still.low, still.high) == pytest.approx(tuple(tango(0, 0, 400)))


def test_less_of_bits_is_a_gain():
    bits = {"distilled": np.full((1, 9), 2.0), "control": np.full((1, 9), 2.5)}
    more = {"distilled": bits["distilled"] + 0.1, "control": bits["control"] + 0.4}
    found = quantised(
        bits,
        more,
        crossed(1, 9),
        student="distilled",
        control="control",
        unit="bits",
        less_is_better=True,
    )
    assert found.change["distilled"].estimate == pytest.approx(-0.1)
    assert "the student loses less" in in_a_sentence(found)
    assert "bits" in in_a_sentence(found)


def test_nothing_that_moves_is_no_difference():
    same = {"distilled": hits(0.9), "control": hits(0.8, seed=1)}
    found = quantised(
        same, same, crossed(3, 400), student="distilled", control="control", unit="fraction"
    )
    assert "it is not shown that the student loses more or less" in in_a_sentence(found)
    # Neither moved on 400 items; both together may differ by sqrt(2) of what one may.
    more: Any = found.more
    assert more.high == pytest.approx(np.sqrt(2) * tango(0, 0, 400).high)
    assert more.low == pytest.approx(-more.high)
    assert more.unit == "difference of differences"
    would = 2.801585 / 1.959964 * more.high
    assert f"a difference of {100 * would:.1f} points would have shown" in in_a_sentence(found)


def test_without_a_control_there_is_no_difference_to_tell():
    only = {"distilled": hits(0.9)}
    found = quantised(
        only, only, crossed(3, 400), student="distilled", control=None, unit="fraction"
    )
    assert isinstance(found.more, Undefined)
    assert in_a_sentence(found).startswith("Weights in 8 bits: there is no control")
