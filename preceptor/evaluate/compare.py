"""Finished reports side by side: a table, as text, Markdown or a page."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from preceptor.errors import DataError
from preceptor.evaluate import plots
from preceptor.evaluate.drawing import short
from preceptor.evaluate.items import Items
from preceptor.evaluate.pairing import Pairing, paired
from preceptor.evaluate.render import environment
from preceptor.evaluate.report import Difference, Measured, Report, Undefined
from preceptor.evaluate.tables import escaped, markdown_table, text_table, wrapped
from preceptor.evaluate.words import estimate, in_words, limits

SCHEMA = "preceptor.comparison/1"
_WIDEST = 32
"""Letters of a label in a terminal's table; files have the whole of it."""

_NO_ARM = Undefined("the run has no such arm")
_ALONE = Undefined("its student is compared with no control")
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

    schema: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """As JSON text; `docs/comparison.schema.json` says of what form."""
        return json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False)


def compare(
    reports: Mapping[str, Report], items: Mapping[str, Items | None] | None = None
) -> Comparison:
    """Lay reports side by side, by label, and pair the students of those that share test items.

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
    students = {label: report.student for label, report in reports.items()}
    differences, unpaired = Pairing((), ()) if items is None else paired(students, items)
    return Comparison(SCHEMA, _HEADS, rows, differences, (*unpaired, *_notes(reports)))


def _values(report: Report) -> tuple[Measured, ...]:
    teacher = next((arm.name for arm in report.arms if arm.role == "teacher"), None)
    main = report.difference(report.student, report.control or "")
    primary = [
        report.arm(name).measures[report.primary] if name else _NO_ARM
        for name in (teacher, report.student, report.control)
    ]
    return (
        *primary,
        main.gain if main else _ALONE,
        main.share if main else _ALONE,
        _agreement(report),
        report.ratios.get("bytes", _UNMEASURED),
        report.ratios.get("latency", _UNMEASURED),
    )


def _agreement(report: Report) -> Measured:
    found = report.arm(report.student).measures
    return found.get("agreement", found.get("token_agreement", _UNMEASURED))


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
        lines.append([_brief(row.label), row.kind, *map(estimate, row.values)])
        lines.append(["", "", *map(limits, row.values)])
    parts = [text_table(lines), "", *map(wrapped, comparison.notes)]
    if comparison.differences:
        pairs = [_pair(each) for each in comparison.differences]
        named = [[_brief(of), _brief(versus), *numbers] for of, versus, *numbers in pairs]
        parts[1:1] = ["", text_table([list(_PAIRED), *named])]
    return "\n".join(parts) + "\n"


def _brief(label: str) -> str:
    return short(label, _WIDEST)


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
