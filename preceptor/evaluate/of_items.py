"""An arm's measures of items as values: each with its limits, or why there is none.

Dimension key: s seeds, n items.
"""

import numpy as np
from jaxtyping import Bool, Float

from preceptor.evaluate.alike import kappas
from preceptor.evaluate.measures import unit_of
from preceptor.evaluate.report import Measured, Undefined
from preceptor.evaluate.scores import Scores
from preceptor.evaluate.significance import (
    at_least_apart,
    gap_of_columns,
    means,
    no_width,
    share_where,
)
from preceptor.ops.resampling import Crossed

NO_NUMBER = "it is not a number"
_NO_VALIDATION = "no validation items were given"
WHY = {
    "temperature": _NO_VALIDATION,
    "ece_scaled": _NO_VALIDATION,
    "kappa": "both give one class throughout",
    "error_consistency": "both are always right, or always wrong",
    "error_consistency_bound": "both are always right, or always wrong",
    "train_kappa": "both give one class throughout",
    "confidence_correlation": "a confidence never varies",
    "follows_steps": "no text holds an equation",
}
"""Why a measure has no number, where more can be said of it."""

_OF_SOME_ITEMS = frozenset({"follows_steps"})
"""Rates of the items alone that the measure is about; NaN elsewhere."""


def of_items(scores: Scores, crossed: Crossed) -> dict[str, Measured]:
    """Every measure of items: its value, or why there is none."""
    found: dict[str, Measured] = {name: Undefined(why) for name, why in scores.untold.items()}
    defined: dict[str, Float[np.ndarray, "s n"]] = {}
    for name, column in scores.by_item.items():
        there = ~np.isnan(column)
        if name in found:
            continue
        if there.all():
            defined[name] = column
        elif name in _OF_SOME_ITEMS:
            found[name] = share_where(column == 1, there, crossed, WHY[name])
        else:
            found[name] = Undefined(_missing(name, there))
    found |= means(defined, {name: unit_of(name) for name in defined}, crossed)
    sides = {name: side for name, side in scores.alike.items() if name in defined}
    return found | kappas({name: defined[name] for name in sides}, sides, crossed)


def _missing(name: str, there: Bool[np.ndarray, "s n"]) -> str:
    """Why a measure has no number, and under how many seeds where that is some."""
    seeds, without = len(there), int((~there).any(axis=1).sum())
    why = WHY.get(name, NO_NUMBER)
    return why if without == seeds else f"{why}, under {without} of {seeds} seeds"


def more_specific(own: Scores, control: Scores, crossed: Crossed) -> dict[str, Measured]:
    """How much more of its teacher alone a student has than its control, which never met it."""
    found: dict[str, Measured] = {}
    for name in ("specific", "token_specific"):
        if not own.has(name) or not control.has(name):
            continue
        columns = {"own": own.by_item[name], "other": control.by_item[name]}
        first, second = columns.values()
        more = gap_of_columns(first, second, crossed, unit_of(f"{name}_gained"))
        if no_width(more):
            each = means(columns, dict.fromkeys(columns, unit_of(name)), crossed)
            more = at_least_apart(more, each["own"], each["other"])
        found[f"{name}_gained"] = more
    return found
