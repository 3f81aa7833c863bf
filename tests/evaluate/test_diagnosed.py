"""What a report says for and against its teacher."""

import dataclasses

import numpy as np

from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Report
from preceptor.evaluate.results import TrainPart


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


def test_classes_in_another_order_and_overconfidence_come_from_the_validation_items(fake):
    result = fake(seeds=3, items=120)
    (one,) = result.teacher.seeds
    held = one.validation
    turned = dataclasses.replace(held, logits=np.roll(4 * held.logits, 1, axis=1))
    wrong = dataclasses.replace(one, validation=turned)
    teacher = dataclasses.replace(result.teacher, seeds=(wrong,))
    report = build_report(dataclasses.replace(result, teacher=teacher))
    assert {"label order", "confidence"} <= kinds(report)
    assert Report.from_json(report.to_json()) == report


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
    assert "on 100.0% (98." in found.seen


def test_two_seeds_lead_to_no_advice_about_the_teachers_lead(fake):
    assert "lead" not in kinds(build_report(fake(seeds=2, items=120)))
    assert "lead" in kinds(build_report(fake(seeds=1, items=120)))


def test_without_a_teacher_nothing_is_found(fake):
    assert build_report(fake(teacher=None)).findings == ()
