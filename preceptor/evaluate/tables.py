"""A report's tables as plain text and as Markdown."""

import textwrap
from collections.abc import Sequence

from preceptor.evaluate.rankings import TeacherRanking
from preceptor.evaluate.render import summary
from preceptor.evaluate.report import MEASURES, Difference, Measured, Report
from preceptor.evaluate.words import estimate, in_full, limits

_WIDTH = 88


def render_text(report: Report) -> str:
    """Verdict and table for a terminal: no colour, no markup, nothing a name could smuggle in."""
    lines = [
        ["arm", MEASURES[report.primary], "gain", "gap closed", "agreement", "size", "latency"]
    ]
    for name, values in summary(report).rows:
        primary, gain, share, agreement, _, parameters, latency = values
        shown = primary, gain, share, agreement
        lines.append([name, *(estimate(value) for value in (*shown, parameters, latency))])
        if any(map(limits, values)):
            lines.append(["", *(limits(value) for value in (*shown, parameters, latency))])
    parts = [report.verdict.headline, *(f"- {each}" for each in report.verdict.sentences)]
    for ranking in report.rankings:
        parts += [ranking.headline, *(f"! {caution}" for caution in ranking.cautions)]
    parts += [f"! {warning}" for warning in report.warnings]
    return "\n".join([text_table(lines), "", *(wrapped(_clean(part)) for part in parts)]) + "\n"


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells in columns as wide as they need; the first row is the head."""
    cells = [[_clean(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([rows[0], "─" * (sum(widths) + 2 * (len(widths) - 1)), *rows[1:]])


def wrapped(text: str) -> str:
    """Text in lines of at most 88 characters; later lines of a list item are indented."""
    indent = "  " if text.startswith(("- ", "! ")) else ""
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent)


def render_markdown(report: Report) -> str:
    """Verdict, results and differences as Markdown."""
    table = summary(report)
    results = [list(table.heads)]
    results += [[name, *(in_full(value) for value in values)] for name, values in table.rows]
    differences = [
        [
            "arm",
            "against",
            "gain",
            "gap closed",
            "p",
            "p, Holm",
            "at least",
            "smallest it could see",
        ]
    ]
    differences += [
        [each.of, each.versus, *map(in_full, _of_difference(each))] for each in report.differences
    ]
    sentences = [f"- {escaped(each)}" for each in report.verdict.sentences]
    warned = [f"- {escaped(each)}" for each in report.warnings]
    parts = [
        f"# {escaped(report.name)}: {report.verdict.kind}",
        f"**{escaped(report.verdict.headline)}**",
        "\n".join(sentences),
        f"{len(report.seeds)} seeds, {report.items} test items; limits are 95 % intervals. "
        f"{escaped(report.timing)}",
        markdown_table(results),
        "## Differences",
        markdown_table(differences),
        *(part for ranking in report.rankings for part in _ranking(ranking)),
        *(("## Warnings", "\n".join(warned)) if warned else ()),
        "## Recipe",
        fenced(report.recipe),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _ranking(found: TeacherRanking) -> list[str]:
    said = (*found.sentences, *(f"! {caution}" for caution in found.cautions))
    return [
        f"## Which teacher, {found.moment}",
        escaped(found.headline),
        markdown_table(list(found.lines())),
        "\n".join(f"- {escaped(each)}" for each in said),
    ]


def _of_difference(each: Difference) -> tuple[Measured, ...]:
    return each.gain, each.share, each.p, each.p_holm, each.at_least, each.smallest


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table; the first row is the head."""
    rows = ["| " + " | ".join(map(escaped, line)) + " |" for line in lines]
    rule = "|" + " --- |" + " ---: |" * (len(lines[0]) - 1)
    return "\n".join([rows[0], rule, *rows[1:]])


def fenced(text: str) -> str:
    """YAML as a Markdown block that no text inside can end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"


def escaped(text: str) -> str:
    """Text as Markdown shows it: a name marks nothing up and breaks no line."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return _clean(text)


def _clean(text: str) -> str:
    """Without line breaks, and control characters as their escapes: a name is no command."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
