import dataclasses

import pytest

from preceptor.errors import DataError
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.compare import (
    compare,
    comparison_html,
    comparison_markdown,
    comparison_text,
)
from preceptor.evaluate.plots import gains_side_by_side
from preceptor.evaluate.report import Undefined, Value
from preceptor.files import write_text
from preceptor.verbs.report import report as side_by_side


def test_each_report_has_a_row_with_its_verdict_and_values(report):
    found = compare({"a": report, "b": report})
    assert [(row.label, row.kind) for row in found.rows] == [
        ("a", report.verdict.kind),
        ("b", report.verdict.kind),
    ]
    assert found.rows[0].values[1] == report.arm("distilled").measures["accuracy"]
    assert len(found.notes) == 1


def test_what_keeps_rows_from_being_compared_is_said(report, fake):
    other = build_report(fake(seeds=3, items=60, classes=tuple("abcdefgh")))
    notes = " ".join(compare({"a": report, "b": other}).notes)
    for words in ("test items differ", "classes differ", "seeds differ"):
        assert words in notes
    slower = dataclasses.replace(report, timing="elsewhere")
    assert "Latencies" in compare({"a": report, "b": slower}).notes[-1]


def test_all_three_forms_show_the_labels_and_escape_them(report):
    found = compare({"runs/<b>": report})
    assert "runs/<b>" in comparison_text(found)
    assert "runs/\\<b\\>" in comparison_markdown(found)
    assert "runs/&lt;b&gt;" in comparison_html(found)
    assert "<script" not in comparison_html(found)


def test_a_run_without_teacher_or_control_says_that_there_is_none(fake):
    bare = build_report(fake(seeds=3, items=30, teacher=None, skill={"distilled": 2.0}))
    assert "n/a" in comparison_text(compare({"bare": bare}))


def test_nothing_to_compare_gets_a_sentence():
    with pytest.raises(DataError, match="Name some runs"):
        compare({})


def test_a_page_of_many_runs_pictures_their_gains_and_one_run_alone_has_no_picture(report):
    many = compare({f"{i} <script>{'x' * i}": report for i in range(50)})
    page = comparison_html(many)
    assert page.count("<svg") == 1
    assert "<script" not in page
    assert "gain over the control, points" in page
    assert "<svg" not in comparison_html(compare({"a": report}))


def test_gains_in_different_units_share_no_picture():
    rows = [("a", Value(0.1, 0.0, 0.2, 9, "difference")), ("b", Value(0.1, 0.0, 0.2, 9, "nats"))]
    assert gains_side_by_side(rows) is None
    assert gains_side_by_side(rows[:1] * 2) is not None


def test_runs_are_labelled_by_what_tells_their_folders_apart(report, tmp_path):
    for name in ("deep/a", "deep/b"):
        write_text(tmp_path / name / "report.json", report.to_json())
    text = side_by_side(tmp_path / "deep/a", tmp_path / "deep/b")
    assert text.splitlines()[2].startswith("a ")
    assert str(tmp_path) not in text


def test_a_long_name_is_shortened_in_the_terminal_alone(report):
    long = f"first{'x' * 150}last"
    found = compare({long: report, "b": report})
    text = comparison_text(found)
    assert "firstxxx" in text
    assert "xxx…xxx" in text
    assert max(map(len, text.splitlines())) < 200
    assert long in comparison_markdown(found)
    assert long in comparison_html(found)


def test_what_was_not_measured_is_not_called_missing_and_notes_mark_nothing_up(report):
    bare = dataclasses.replace(report, ratios={}, timing="")
    found = compare({"a": report, "<b>`x`": bare}, {"a": None, "<b>`x`": None})
    assert found.rows[1].values[-2:] == (Undefined("not measured"),) * 2
    assert not any("Latencies" in note for note in found.notes)
    text = comparison_markdown(found)
    assert "single items (run \\`preceptor evaluate\\` on each): a, \\<b\\>\\`x\\`." in text
    # Each n/a has its reason, on the page too.
    assert '<small class="why">not measured</small>' in comparison_html(found)
    assert "<b>" not in text.replace("\\<b", "")
