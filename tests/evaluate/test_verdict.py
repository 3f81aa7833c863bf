import pytest

from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.report import Report, Value
from preceptor.evaluate.verdict import judge
from preceptor.evaluate.words import estimate
from tests.evaluate.conftest import SKILL


def verdict(fake, **changes):
    return build_report(fake(**({"seeds": 5, "items": 300} | changes))).verdict


def said(verdict):
    return " ".join([verdict.headline, *verdict.sentences])


def test_a_gain_whose_interval_leaves_zero_out_helped(fake):
    found = verdict(
        fake, unlabelled=1097, skill={"distilled": 2.3, "control": 1.7, "smoothing": 1.75}
    )
    assert found.kind == "helped"
    assert found.headline.startswith("The teacher helped. ")
    assert "of the gap between control and teacher" in said(found)
    assert "1,097 unlabelled images" in said(found)
    assert "of the teacher and of these images together" in said(found)
    assert "the gain is more than that" in said(found)
    assert "latency 11" in said(found)


def test_a_loss_whose_interval_leaves_zero_out_hurt_and_says_not_to_distil(fake):
    found = verdict(fake, skill={"distilled": 1.4, "control": 1.9})
    assert found.kind == "hurt"
    assert "do not distil" in found.headline
    assert "closed" not in said(found)


def test_no_difference_comes_with_the_smallest_that_could_be_seen(fake):
    found = verdict(fake, skill={"distilled": 1.75, "control": 1.75})
    assert found.kind == "no difference seen"
    assert "would have shown a difference of" in found.headline


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(fake, seeds):
    found = verdict(fake, seeds=seeds, skill={"distilled": 3.0, "control": 1.0})
    assert found.kind == "not enough seeds"
    assert "at least 3" in found.headline
    assert "closed" not in said(found)
    assert ("McNemar" in said(found)) == (seeds == 1)


def test_a_chance_too_small_to_print_is_not_called_zero(fake):
    found = said(verdict(fake, seeds=1, skill={"distilled": 6.0, "control": 0.0}))
    assert "gives p < 0.0001." in found
    assert "0.0000" not in found


def test_few_seeds_say_what_p_they_could_reach_at_best(fake):
    assert "the least that 3 seeds can give is 0.25" in said(verdict(fake, seeds=3))
    assert "the least" not in said(verdict(fake, seeds=6))


def test_a_gain_that_smoothing_also_has_is_not_the_teachers_alone(fake):
    found = verdict(fake, skill={"distilled": 2.0, "control": 1.6, "smoothing": 2.0})
    assert found.kind == "helped"
    assert "But label smoothing" in said(found)
    assert "may explain the gain as well as the teacher" in said(found)


def test_a_longer_run_that_does_better_is_what_to_use(fake):
    found = verdict(fake, skill={"distilled": 1.9, "control": 1.6, "longer": 2.6})
    assert "The longer plain run" in said(found)
    assert "use that instead" in said(found)


def test_without_a_control_nothing_is_known(fake):
    found = verdict(fake, skill={"distilled": 1.9})
    assert found.kind == "not known"


def test_without_a_teacher_the_method_is_what_helped(fake):
    found = verdict(fake, teacher=None)
    assert found.headline.startswith("The method helped.")
    assert "teacher" not in found.headline


def test_a_teacher_that_is_no_better_is_named_as_such(fake):
    assert "is not told from zero" in said(verdict(fake, teacher=1.75))


def test_a_report_read_from_disk_leads_to_the_same_verdict(report):
    assert judge(Report.from_json(report.to_json())) == report.verdict


def test_many_other_ways_to_teach_are_counted_in_one_sentence(fake):
    others = {f"way-{index}": 1.75 + 0.3 * index for index in range(5)}
    report = build_report(fake(skill={**SKILL, **others}, seeds=4, items=200))
    (words,) = [each for each in report.verdict.sentences if "other ways to teach" in each]
    gains = sum((each.gain.low or 0) > 0 for each in report.differences if each.of in others)
    assert words.startswith(f"Of 5 other ways to teach, {gains} gain, 0 lose")


def test_a_difference_that_rounds_to_nothing_has_no_sign_of_a_loss():
    assert estimate(Value(-0.0002, -0.01, 0.01, 500, "difference")) == "+0.0 points"
