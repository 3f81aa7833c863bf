"""Does the student lose more than its control when its weights are rounded to 8 bits?

Dimension key: s seeds, n items.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from preceptor.evaluate.report import Measured, Quantised, Undefined, Value
from preceptor.evaluate.significance import means, valued
from preceptor.evaluate.words import in_words
from preceptor.ops.resampling import Crossed, percentile

Columns = Mapping[str, Shaped[Any, "s n"]]


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
    more: Measured = Undefined("there is no control to compare with")
    if control is not None and {student, control} <= set(names):
        more = _paired(moved[student] - moved[control], crossed, gain)
    units = dict.fromkeys(names, unit)
    return Quantised(
        before=means({k: _floats(before[k]) for k in names}, units, crossed),
        after=means({k: _floats(after[k]) for k in names}, units, crossed),
        change={k: _paired(moved[k], crossed, gain) for k in names},
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
        said = "no difference from its control is seen"
    else:
        said = f"the student {'loses more' if more.high < 0 else 'loses less'} than its control"
    return f"Weights in 8 bits: {said} ({in_words(more)})."


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column, dtype=np.float64)


def _paired(column: np.ndarray, crossed: Crossed, unit: str) -> Value:
    interval = percentile(float(column.mean()), crossed.means(column[None])[:, 0])
    return valued(interval, column.shape[1], unit)
