"""A report with only the parts that were asked for."""

from collections.abc import Collection
from dataclasses import replace

from preceptor.evaluate.measures import ASKED_FOR, GROUPS
from preceptor.evaluate.report import Report, Undefined

_PARTS = {
    "calibration": tuple(GROUPS["Calibration"]),
    "fidelity": tuple(
        name
        for title, group in GROUPS.items()
        if title not in ("Task", "Calibration", "Cost")
        for name in group
        if name not in ASKED_FOR
    ),
    "cost": tuple(GROUPS["Cost"]),
}
_SAID = ("agreement", "token_agreement", "kl_teacher_model", "ece")
"""Measures that the table at the end of a run has a column for: where they are left out, it says
why."""


def selected(report: Report, parts: Collection[str]) -> Report:
    """The report without the measures of the parts that are not named.

    Parts are "calibration", "fidelity" and "cost"; accuracy and the verdict are always there.
    """
    dropped = {name: part for part, names in _PARTS.items() if part not in parts for name in names}
    arms = tuple(
        replace(
            arm,
            measures={
                name: Undefined(f"{dropped[name]} was not asked for") if name in dropped else value
                for name, value in arm.measures.items()
                if name not in dropped or name in _SAID
            },
        )
        for arm in report.arms
    )
    kept = replace(report, arms=arms)
    if "calibration" not in parts:
        kept = replace(kept, reliability=())
    if "fidelity" not in parts:
        kept = replace(kept, class_agreement=Undefined("fidelity was not asked for"))
        kept = replace(kept, layers=(), layer_map=None)
    if "cost" not in parts:
        kept = replace(kept, ratios={}, timing="")
    return kept
