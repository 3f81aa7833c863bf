"""Does the student lose more than its control when its weights are rounded to 8 bits?

Dimension key: s seeds, n items.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from preceptor.evaluate.report import Measured, Quantised, Undefined, Value
from preceptor.evaluate.significance import FEW, at_least_apart, gap, means, valued
from preceptor.evaluate.words import estimate, in_words
from preceptor.ops.hypotheses import seen_within
from preceptor.ops.resampling import Crossed, percentile

Columns = Mapping[str, Shaped[Any, "s n"]]
_LEAST = {"difference of differences": "points", "bits gained": "bits", "nats gained": "nats"}


def quantised(
    before: Columns,
    after: Columns,
    crossed: Crossed,
    *,
    student: str,
    control: str | None,
    unit: str,
    less_is_better: bool = False,
) -> Quantised:
    """Compare arms with themselves after rounding.

    Args:
        before: the primary measure of each arm, item by item.
        after: the same with rounded weights; other arms of `before` are left out.
        crossed: the draws.
        student: the arm that the report is about.
        control: its control; None where there is none.
        unit: of the measure, "fraction" or "bits".
        less_is_better: whether a fall is a gain.
    """
    sign = -1.0 if less_is_better else 1.0
    names = list(after)
    moved = {k: sign * (_floats(after[k]) - _floats(before[k])) for k in names}
    gain = "difference" if unit == "fraction" else f"{unit} gained"
    change = {k: _paired(moved[k], crossed, gain) for k in names}
    more: Measured = Undefined("there is no control to compare with")
    if control is not None and {student, control} <= set(names):
        more = _more(moved[student], moved[control], change[student], change[control], crossed)
    units = dict.fromkeys(names, unit)
    return Quantised(
        before=means({k: _floats(before[k]) for k in names}, units, crossed),
        after=means({k: _floats(after[k]) for k in names}, units, crossed),
        change=change,
        more=more,
    )


def in_a_sentence(found: Quantised) -> str:
    """What came of it, in words."""
    more = found.more
    if isinstance(more, Undefined):
        return f"Weights in 8 bits: {more.why}."
    assert more.low is not None
    assert more.high is not None
    if more.low <= 0 <= more.high:
        least = seen_within(more.low, more.high)
        would = Value(least, None, None, more.n, _LEAST.get(more.unit, more.unit))
        said = (
            "it is not shown that the student loses more or less than its control (a difference of "
            f"{estimate(would)} would have shown four times in five)"
        )
        return f"Weights in 8 bits: {said}: {in_words(more)}."
    said = f"the student {'loses more' if more.high < 0 else 'loses less'} than its control"
    return f"Weights in 8 bits: {said} ({in_words(more)})."


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column, dtype=np.float64)


def _paired(column: Float[np.ndarray, "s n"], crossed: Crossed, unit: str) -> Value:
    """An arm beside itself; hits (1, 0 and -1) as any two models' are compared."""
    if unit == "difference" and np.isin(column, (-1.0, 0.0, 1.0)).all():
        return gap(column > 0, column < 0, crossed)
    interval = percentile(float(column.mean()), crossed.means(column[None])[:, 0])
    return valued(interval, column.shape[1], unit)


def _more(
    student: Float[np.ndarray, "s n"],
    control: Float[np.ndarray, "s n"],
    own: Value,
    other: Value,
    crossed: Crossed,
) -> Value:
    """What the student loses more, of 2 at the most.

    Hits that hardly move have no bootstrap that says anything: where under one seed or another
    fewer than `FEW` items move in both arms together, it has limits from those of both changes.
    """
    items = student.shape[1]
    interval = percentile(
        own.estimate - other.estimate, crossed.means((student - control)[None])[:, 0]
    )
    unit = own.unit if own.unit != "difference" else "difference of differences"
    moved = float(((student != 0) | (control != 0)).mean()) * items
    found = valued(interval, items, unit)
    return at_least_apart(found, own, other) if own.unit == "difference" and moved < FEW else found
