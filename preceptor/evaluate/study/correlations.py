"""What goes with gain, and what goes with agreement: rank correlations that count tasks once.

Across tasks each task is one row. Within tasks, ranks are taken inside each task and the test
shuffles inside it, so that an easy task says nothing; intervals draw whole tasks either way.

Dimension key: t tasks, s students, k teachers.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from preceptor.evaluate.report import Measured, Undefined, Value
from preceptor.evaluate.study.study import CorrelationRow, rho_value
from preceptor.evaluate.study.table import Table, known
from preceptor.ops.correlations import spearman
from preceptor.ops.hypotheses import holm

ACROSS = (
    ("teacher_accuracy", "gain"),
    ("expertise", "gain"),
    ("agreement", "gain"),
    ("kappa", "gain"),
    ("agreement", "accuracy"),
    ("kappa", "accuracy"),
    ("agreement_change", "gain"),
    ("kappa_change", "gain"),
)
WITHIN = (
    ("students", "parameters", "gain"),
    ("teachers", "teacher_accuracy", "gain"),
    ("students", "agreement", "gain"),
    ("students", "agreement", "accuracy"),
    ("students", "kappa", "accuracy"),
    ("students", "agreement_change", "gain"),
    ("students", "kappa_change", "gain"),
    ("students", "error_consistency_change", "gain"),
)


def correlations(table: Table, generator: np.random.Generator) -> tuple[CorrelationRow, ...]:
    """All of them, with Holm's adjustment over those that exist."""
    rows = [_across(table, *pair, generator) for pair in ACROSS]
    rows += [_within(table, *each, generator) for each in WITHIN]
    ps = [row.p.estimate for row in rows if isinstance(row.p, Value)]
    adjusted = iter(holm(np.array(ps))) if ps else iter(())
    return tuple(
        replace(row, p_holm=replace(row.p, estimate=float(next(adjusted))))
        if isinstance(row.p, Value)
        else row
        for row in rows
    )


def _across(
    table: Table, first: str, second: str, generator: np.random.Generator
) -> CorrelationRow:
    columns = [_mean(table.array(name), (1, 2, 3)) for name in (first, second)]
    return _row(first, second, "tasks", columns, None, generator)


def _within(
    table: Table, axis: str, first: str, second: str, generator: np.random.Generator
) -> CorrelationRow:
    """One row for each task and student (or teacher), the others averaged."""
    averaged = (2, 3) if axis == "students" else (1, 3)
    sides = [_mean(table.array(name), averaged) for name in (first, second)]
    tasks = np.repeat(np.arange(len(sides[0])), sides[0].shape[1])
    return _row(first, second, axis, [side.ravel() for side in sides], tasks, generator)


def _mean(values: Any, axes: tuple[int, ...]) -> Any:
    """Mean over axes of what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis=axes)
    total = np.where(there, values, 0.0).sum(axis=axes)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _row(
    first: str,
    second: str,
    across: str,
    columns: list[Any],
    tasks: Any,
    generator: np.random.Generator,
) -> CorrelationRow:
    there = ~np.isnan(np.stack(columns)).any(axis=0)
    left, right = (column[there] for column in columns)
    of = None if tasks is None else tasks[there]
    if len(left) < 3:
        why = Undefined(f"{len(left)} rows have both, and a correlation needs three")
        return CorrelationRow(known(first), known(second), across, why, why, why)
    found = spearman(left, right, generator, units=of, strata=of)
    if isinstance(found, str):
        why = Undefined(found)
        return CorrelationRow(known(first), known(second), across, why, why, why)
    rho = rho_value(found.rho, found.low, found.high, found.units)
    p: Measured = Value(found.p, None, None, found.rows, "p")
    return CorrelationRow(known(first), known(second), across, rho, p, p)
