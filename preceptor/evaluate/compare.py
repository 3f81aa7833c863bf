"""Finished reports side by side: a table, as text, Markdown or a page."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from preceptor.errors import DataError
from preceptor.evaluate import plots
from preceptor.evaluate.items import Items
from preceptor.evaluate.render import environment
from preceptor.evaluate.report import Difference, Measured, Report, Undefined
from preceptor.evaluate.significance import difference
from preceptor.evaluate.tables import escaped, markdown_table, text_table
from preceptor.evaluate.words import estimate, in_words, limits
from preceptor.ops.hypotheses import holm
from preceptor.ops.resampling import Crossed

SCHEMA = "preceptor.comparison/1"
_SEED = 0
_NOTHING = Undefined("there is none")
_UNMEASURED = Undefined("not measured")
_HEADS = (
    "report",
    "verdict",
    "teacher",
    "student",
    "control",
    "gain",
    "gap closed",
    "agreement",
    "size ratio",
    "latency ratio",
)


@dataclass(frozen=True)
class Row:
    """One report's line: its label, its verdict, and its main values."""

    label: str
    kind: str
    values: tuple[Measured, ...]


@dataclass(frozen=True)
class Comparison:
    """Reports side by side, and what keeps their rows from being compared."""

    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """As JSON text, of the version in `schema`."""
        plain = {"schema": SCHEMA, **dataclasses.asdict(self)}
        return json.dumps(plain, indent=1, allow_nan=False)


def compare(
    reports: Mapping[str, Report], items: Mapping[str, Items | None] | None = None
) -> Comparison:
    """Lay reports side by side, by label, and pair their students with the first one's.

    A row's intervals are its run's own: two rows whose intervals overlap may still differ. A
    difference has its interval where both runs were tested on the same items under the same seeds:
    then seeds and items are drawn together for both.

    Args:
        reports: by label.
        items: of each run, by label; None where it has none. Where not given, nothing is paired.
    """
    if not reports:
        raise DataError("no reports were given", "there is nothing to compare", "Name some runs.")
    rows = tuple(
        Row(label, report.verdict.kind, _values(report)) for label, report in reports.items()
    )
    differences, unpaired = ((), []) if items is None else _paired(reports, items)
    notes = (*unpaired, *_notes(reports))
    return Comparison(_HEADS, rows, differences, notes)


def _paired(
    reports: Mapping[str, Report], items: Mapping[str, Items | None]
) -> tuple[tuple[Difference, ...], list[str]]:
    """Each student against the first run's, and why some cannot be paired."""
    first, *others = reports
    base = items.get(first)
    found: list[Difference] = []
    unpaired: list[str] = []
    for label in others:
        own = items.get(label)
        if base is None or own is None:
            why = "a run holds no scores of single items (run `preceptor evaluate` on it)"
        else:
            why = own.pairs_with(base)
        if why:
            unpaired.append(f"{label} is not paired with {first}: {why}.")
            continue
        assert base is not None
        assert own is not None
        of, versus = own.arms[reports[label].student], base.arms[reports[first].student]
        generator = np.random.default_rng(_SEED)
        seeds, count = of.shape
        groups = np.array(own.clusters) if own.clusters else None
        crossed = Crossed(seeds, count, generator, clusters=groups)
        sides = (label, _kept(of, own.primary)), (first, _kept(versus, own.primary))
        found.append(difference(*sides, None, crossed, generator, own.primary))
    adjusted = holm(np.array([each.p.estimate for each in found]))
    return tuple(
        replace(each, p_holm=replace(each.p, estimate=float(p)))
        for each, p in zip(found, adjusted, strict=True)
    ), unpaired


def _kept(good: Float[np.ndarray, "s n"], primary: str) -> np.ndarray:
    """Hits as truth values, for McNemar's test."""
    return good.astype(bool) if primary == "accuracy" else good


def _values(report: Report) -> tuple[Measured, ...]:
    teacher = next((arm.name for arm in report.arms if arm.role == "teacher"), None)
    main = report.difference(report.student, report.control or "")
    primary = [
        report.arm(name).measures[report.primary] if name else _NOTHING
        for name in (teacher, report.student, report.control)
    ]
    return (
        *primary,
        main.gain if main else _NOTHING,
        main.share if main else _NOTHING,
        _agreement(report),
        report.ratios.get("bytes", _UNMEASURED),
        report.ratios.get("latency", _UNMEASURED),
    )


def _agreement(report: Report) -> Measured:
    found = report.arm(report.student).measures
    return found.get("agreement", found.get("token_agreement", _NOTHING))


def _notes(reports: Mapping[str, Report]) -> list[str]:
    notes = ["A row's limits are its run's own 95 % intervals: rows are not paired."]
    if len({report.items for report in reports.values()}) > 1:
        notes.append("The numbers of test items differ: accuracies are not of one test.")
    if len({report.primary for report in reports.values()}) > 1:
        notes.append("The measures that the verdicts are about differ.")
    names = {tuple(each.name for each in report.classes) for report in reports.values()}
    if len(names) > 1:
        notes.append("The classes differ: accuracies are not of one task.")
    if len({report.seeds for report in reports.values()}) > 1:
        notes.append("The seeds differ between runs.")
    if len({report.timing for report in reports.values() if "latency" in report.ratios}) > 1:
        notes.append("Latencies were taken in different ways.")
    return notes


def comparison_text(comparison: Comparison) -> str:
    """As a plain table."""
    lines: list[list[str]] = [list(comparison.heads)]
    for row in comparison.rows:
        lines.append([row.label, row.kind, *map(estimate, row.values)])
        lines.append(["", "", *map(limits, row.values)])
    parts = [text_table(lines), "", *comparison.notes]
    if comparison.differences:
        pairs = [list(_PAIRED), *map(_pair, comparison.differences)]
        parts[1:1] = ["", text_table(pairs)]
    return "\n".join(parts) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """As Markdown."""
    lines = [list(comparison.heads)]
    lines += [[row.label, row.kind, *map(in_words, row.values)] for row in comparison.rows]
    parts = [markdown_table(lines), *map(escaped, comparison.notes)]
    if comparison.differences:
        parts.insert(1, markdown_table([list(_PAIRED), *map(_pair, comparison.differences)]))
    return "\n\n".join(parts) + "\n"


_PAIRED = ("student of", "against that of", "paired gain", "p", "p (Holm)", "would have been seen")


def _pair(each: Difference) -> list[str]:
    chances = estimate(each.p), estimate(each.p_holm), estimate(each.smallest)
    return [each.of, each.versus, in_words(each.gain), *chances]


def comparison_html(comparison: Comparison) -> str:
    """As a page that needs nothing else."""
    place = comparison.heads.index("gain") - 2  # A row's values follow its label and verdict.
    rows = [(row.label, row.values[place]) for row in comparison.rows]
    page = environment().get_template("compare.html")
    return page.render(comparison=comparison, gains=plots.gains_side_by_side(rows))
