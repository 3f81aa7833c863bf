from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Report, Undefined, Value
from preceptor.evaluate.results import RunResult
from preceptor.evaluate.selection import selected
from preceptor.evaluate.tables import render_text


def test_a_report_of_accuracy_alone_has_nothing_else_and_still_renders(result: RunResult) -> None:
    whole = build_report(result)
    only = selected(whole, ("accuracy",))
    for arm in only.arms:
        told = {name for name, value in arm.measures.items() if isinstance(value, Value)}
        assert {"accuracy", "top5", "macro_f1"} >= told > set()
    assert only.arm("distilled").measures["agreement"] == Undefined("fidelity was not asked for")
    assert "fidelity was not asked for" in render_html(only)
    assert only.ratios == {}
    assert only.verdict == whole.verdict
    assert "accuracy" in render_text(only)
    assert "Reliability" not in render_html(only)
    assert Report.from_json(only.to_json()) == only


def test_all_parts_are_the_whole_report(result: RunResult) -> None:
    whole = build_report(result)
    assert selected(whole, ("accuracy", "calibration", "fidelity", "cost")) == whole
