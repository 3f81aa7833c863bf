"""What a report says for and against its teacher."""

import dataclasses

import numpy as np
import pytest

from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.diagnosed import room
from preceptor.evaluate.diagnosis import far_ahead
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Report, Value
from preceptor.evaluate.results import TrainPart
from preceptor.evaluate.words import in_words


def kinds(report):
    return {each.kind for each in report.findings}


def test_a_teacher_that_leads_is_said_to_without_advice(report):
    lead = next(each for each in report.findings if each.kind == "lead")
    assert not lead.against
    assert not lead.advice
    assert lead.seen.startswith("The teacher's lead over the control is +")


def test_a_worse_teacher_is_advised_against_in_the_verdict(fake):
    report = build_report(fake(seeds=3, items=300, teacher=0.8))
    lead = next(each for each in report.findings if each.kind == "lead")
    assert lead.against
    assert str(lead) in report.verdict.sentences
    page = render_html(report)
    assert "Do not distil from it" in page
    assert "<strong>Against:</strong>" in page


def test_classes_in_another_order_or_overconfidence_come_from_the_validation_items(fake):
    result = fake(seeds=3, items=120)
    (one,) = result.teacher.seeds
    held = one.validation

    def judged(logits):
        wrong = dataclasses.replace(one, validation=dataclasses.replace(held, logits=logits))
        teacher = dataclasses.replace(result.teacher, seeds=(wrong,))
        return build_report(dataclasses.replace(result, teacher=teacher))

    report = judged(np.roll(4 * held.logits, 1, axis=1))
    assert "label order" in kinds(report)
    # Which temperature would mend an order that is to be mended first is no advice.
    assert "confidence" not in kinds(report)
    assert Report.from_json(report.to_json()) == report
    noisy = held.logits + 8 * np.random.default_rng(0).normal(size=held.logits.shape)
    assert "confidence" in kinds(judged(4 * noisy))


def test_a_student_that_copies_what_it_was_taught_and_no_more_lacks_examples(fake):
    result = fake(seeds=1, items=300, skill={"distilled": 0.7, "control": 0.7})
    taught = np.eye(10)[np.arange(200) % 10]
    part = TrainPart(labels=np.arange(200) % 10, logits=taught)

    def seen(arm):
        seeds = tuple(dataclasses.replace(one, train=part) for one in arm.seeds)
        return dataclasses.replace(arm, seeds=seeds)

    whole = dataclasses.replace(
        result, teacher=seen(result.teacher), arms=tuple(map(seen, result.arms))
    )
    found = next(each for each in build_report(whole).findings if each.kind == "data")
    assert "on 100.0 % (98.1 to 100.0) of what" in found.seen


def test_what_a_student_copies_is_told_of_all_seeds_with_the_tables_numbers(fake):
    result = fake(seeds=4, items=200)
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10

    def seen(arm, agreeing):
        parts = []
        for one, share in zip(arm.seeds, agreeing, strict=True):
            own = np.where(rng.random(200) < share, labels, (labels + 1) % 10)
            parts.append(dataclasses.replace(one, train=TrainPart(labels, np.eye(10)[own])))
        return dataclasses.replace(arm, seeds=tuple(parts))

    arms = tuple(seen(arm, (0.4, 0.5, 0.6, 0.7)) for arm in result.arms)
    told = dataclasses.replace(result, teacher=seen(result.teacher, (1.0,)), arms=arms)
    report = build_report(told)
    found = next(each for each in report.findings if each.kind == "capacity")
    for name in ("train_agreement", "agreement"):
        assert f"on {in_words(report.arm('distilled').measures[name])} of what" in found.seen


def share(percent):
    return Value(percent / 100, (percent - 3) / 100, (percent + 3) / 100, 400, "fraction")


def said(*told):
    found = room(*told)
    assert found is not None
    return found


def test_a_student_without_room_is_told_from_one_with_too_few_examples():
    small = said(share(70), share(68), 40.0)
    assert small.kind == "capacity"
    assert "on 70.0 % (67.0 to 73.0) of what it was taught on" in small.seen
    assert "40 times its parameters: try an assistant" in small.advice
    same = said(share(70), share(68), 1.1)
    assert same.advice.endswith("about its teacher's size: try more steps, or a gentler rate.")
    assert said(share(97), share(80), 40.0).kind == "data"
    assert room(share(97), share(96), 40.0) is None
    assert room(dataclasses.replace(share(70), n=5), share(68), 4.0) is None


def test_no_assistant_is_advised_to_a_teacher_whose_lead_is_not_shown(fake):
    large = far_ahead(459.0)
    assert large is not None
    told = fake(seeds=3, items=120, teacher=1.75, findings=(large,))
    found = {each.kind: each for each in build_report(told).findings}
    assert "nor is one ruled out" in found["lead"].advice
    assert next(iter(found)) == "lead"
    assert found["capacity"].seen == large.seen
    assert "assistant" not in found["capacity"].advice
    better = build_report(fake(seeds=3, items=120, findings=(large,)))
    assert large in better.findings


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_teachers_lead_comes_first_under_any_number_of_seeds(fake, seeds):
    large = far_ahead(459.0)
    first, *others = build_report(
        fake(seeds=seeds, items=120, teacher=1.75, findings=(large,))
    ).findings
    assert first.kind == "lead"
    assert "nor is one ruled out" in first.advice
    assert [each for each in others if "assistant" in each.advice] == []
    assert others


def test_where_both_are_right_throughout_a_harder_test_is_advised(fake):
    skill = {"distilled": 9.0, "control": 9.0}
    lead = build_report(fake(seeds=3, items=60, teacher=9.0, skill=skill)).findings[0]
    assert "test on harder ones" in lead.advice
    assert "better teacher" not in lead.advice


def test_without_a_teacher_nothing_is_found(fake):
    assert build_report(fake(teacher=None)).findings == ()
