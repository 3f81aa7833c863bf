from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.tables import markdown_table, render_markdown, render_text, text_table


def test_the_terminals_table_has_every_arm_with_its_interval_and_the_verdict(report):
    text = render_text(report)
    for arm in report.arms:
        assert any(line.startswith(arm.name) for line in text.splitlines())
    assert report.verdict.headline.split(".")[0] in text
    assert " to " in text
    assert max(map(len, text.splitlines())) <= 100


def test_columns_stand_below_their_heads():
    assert text_table([["a", "b"], ["long", "1"]]).splitlines() == ["a     b", "───────", "long  1"]


def test_a_name_commands_neither_the_terminal_nor_markdown(fake):
    evil = "\x1b[31m|<b>*\n"
    report = build_report(
        fake(seeds=3, items=30, name=evil, skill={"distilled": 2.0, "control": 1.0, evil: 1.0})
    )
    assert "\x1b" not in render_text(report)
    markdown = render_markdown(report)
    assert "\x1b" not in markdown
    assert "<b>" not in markdown.replace("\\<b\\>", "")


def test_a_recipe_with_fences_does_not_leave_its_fence(fake):
    report = build_report(fake(seeds=3, items=30, recipe="a: |\n  ```\n  # b\n"))
    assert "````yaml" in render_markdown(report)


def test_markdown_has_as_many_cells_in_every_row(report):
    rows = [line for line in render_markdown(report).splitlines() if line.startswith("| ")]
    assert {row.count(" | ") for row in rows[: len(report.arms) + 1]} == {7}
    assert markdown_table([["a", "b"], ["x|y", "1"]]).endswith("| x\\|y | 1 |")
