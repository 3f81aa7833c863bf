"""Finished reports side by side: a table, as text, Markdown or a page."""

from collections.abc import Mapping
from dataclasses import dataclass

from preceptor.errors import DataError
from preceptor.evaluate.render import environment
from preceptor.evaluate.report import Measured, Report, Undefined
from preceptor.evaluate.tables import markdown_table, text_table
from preceptor.evaluate.words import estimate, in_words, limits

_NOTHING = Undefined("there is none")
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
    notes: tuple[str, ...]


def compare(reports: Mapping[str, Report]) -> Comparison:
    """Lay reports side by side, by label.

    The intervals are each run's own: rows are not paired, so two rows whose intervals overlap may
    still differ, and a difference between rows has no interval here.
    """
    if not reports:
        raise DataError("no reports were given", "there is nothing to compare", "Name some runs.")
    rows = tuple(
        Row(label, report.verdict.kind, _values(report)) for label, report in reports.items()
    )
    return Comparison(_HEADS, rows, tuple(_notes(reports)))


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
        report.ratios.get("bytes", _NOTHING),
        report.ratios.get("latency", _NOTHING),
    )


def _agreement(report: Report) -> Measured:
    found = report.arm(report.student).measures
    return found.get("agreement", found.get("token_agreement", _NOTHING))


def _notes(reports: Mapping[str, Report]) -> list[str]:
    notes = ["Limits are each run's own 95 % intervals; rows are not paired."]
    if len({report.items for report in reports.values()}) > 1:
        notes.append("The numbers of test items differ: accuracies are not of one test.")
    if len({report.primary for report in reports.values()}) > 1:
        notes.append("The measures that the verdicts are about differ.")
    names = {tuple(each.name for each in report.classes) for report in reports.values()}
    if len(names) > 1:
        notes.append("The classes differ: accuracies are not of one task.")
    if len({report.seeds for report in reports.values()}) > 1:
        notes.append("The seeds differ between runs.")
    if len({report.timing for report in reports.values()}) > 1:
        notes.append("Latencies were taken in different ways.")
    return notes


def comparison_text(comparison: Comparison) -> str:
    """As a plain table."""
    lines: list[list[str]] = [list(comparison.heads)]
    for row in comparison.rows:
        lines.append([row.label, row.kind, *map(estimate, row.values)])
        lines.append(["", "", *map(limits, row.values)])
    return "\n".join([text_table(lines), "", *comparison.notes]) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """As Markdown."""
    lines = [list(comparison.heads)]
    lines += [[row.label, row.kind, *map(in_words, row.values)] for row in comparison.rows]
    return "\n\n".join([markdown_table(lines), *comparison.notes]) + "\n"


def comparison_html(comparison: Comparison) -> str:
    """As a page that needs nothing else."""
    return environment().get_template("compare.html").render(comparison=comparison)
