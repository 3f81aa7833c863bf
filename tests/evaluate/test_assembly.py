import dataclasses
from typing import get_args

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from preceptor.errors import DataError, NonFiniteError
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.measures import range_of
from preceptor.evaluate.report import MEASURES, Measured, Undefined, Value
from preceptor.evaluate.significance import difference, over_seeds
from preceptor.ops.resampling import Crossed


def value(measured: Measured) -> Value:
    assert isinstance(measured, Value), measured
    return measured


def hits(result, name):
    arm = next(arm for arm in result.everybody if arm.name == name)
    return np.stack([one.logits.argmax(-1) == result.labels for one in arm.seeds])


def changed(result, name, at=0, **fields):
    """The result with one arm's one seed changed."""

    def swap(arm):
        if arm.name != name:
            return arm
        one = dataclasses.replace(arm.seeds[at], **fields)
        return dataclasses.replace(arm, seeds=(*arm.seeds[:at], one, *arm.seeds[at + 1 :]))

    return dataclasses.replace(
        result, arms=tuple(map(swap, result.arms)), teacher=swap(result.teacher)
    )


def test_every_measure_is_named_and_every_number_has_a_count_and_a_unit(report):
    for arm in report.arms:
        assert set(arm.measures) <= set(MEASURES)
        for measured in arm.measures.values():
            assert isinstance(measured, get_args(Measured))
            if isinstance(measured, Value):
                assert measured.n >= 1
                assert measured.unit
                if measured.low is not None and measured.high is not None:
                    assert measured.low <= measured.estimate <= measured.high


def test_estimates_are_plain_means(report, result):
    distilled, control = hits(result, "distilled"), hits(result, "control")
    teacher = hits(result, "teacher")
    assert value(report.arm("distilled").measures["accuracy"]).estimate == distilled.mean()
    main = report.difference("distilled", "control")
    assert main.gain.estimate == pytest.approx(distilled.mean() - control.mean())
    assert value(report.gap).estimate == pytest.approx(teacher.mean() - control.mean())
    share = (distilled.mean() - control.mean()) / (teacher.mean() - control.mean())
    assert value(main.share).estimate == pytest.approx(share)


def test_fidelity_is_a_mean_over_seeds_beside_the_one_teacher(report, result):
    answers = [one.logits.argmax(-1) for one in result.student.seeds]
    master = result.teacher.seeds[0].logits.argmax(-1)
    kappas = [cohen_kappa_score(own, master) for own in answers]
    measures = report.arm("distilled").measures
    assert value(measures["kappa"]).estimate == pytest.approx(np.mean(kappas))
    wrong = master != result.labels
    copied = np.mean([(own == master)[wrong].mean() for own in answers])
    assert value(measures["agreement_on_errors"]).estimate == pytest.approx(copied)
    assert "agreement" not in report.arm("teacher").measures


def test_the_one_teacher_has_wilsons_interval(report, result):
    right = int(hits(result, "teacher").sum())
    limits = stats.binomtest(right, 120).proportion_ci(method="wilson")
    accuracy = value(report.arm("teacher").measures["accuracy"])
    assert (accuracy.low, accuracy.high) == pytest.approx((limits.low, limits.high))


def test_a_teacher_for_every_seed_is_met_seed_by_seed(fake):
    result = fake(seeds=3, items=60, teacher_seeds=3)
    report = build_report(result)
    pairs = zip(result.student.seeds, result.teacher.seeds, strict=True)
    same = [(a.logits.argmax(-1) == b.logits.argmax(-1)).mean() for a, b in pairs]
    agreement = value(report.arm("distilled").measures["agreement"])
    assert agreement.estimate == pytest.approx(np.mean(same))


def test_students_of_the_teacher_agree_with_it_more_than_the_control_does(report):
    of = {name: report.arm(name).measures for name in ("distilled", "control")}
    # One error of a teacher's shows nothing of whose errors are its own.
    assert of["control"]["error_consistency"] == of["distilled"]["error_consistency_bound"]
    few = Undefined("the teacher errs on 1 of 120 items: too few to tell")
    assert of["control"]["error_consistency"] == few
    for name in ("agreement", "kappa", "confidence_correlation"):
        assert value(of["distilled"][name]).estimate > value(of["control"][name]).estimate
    for name in ("kl_teacher_model", "kl_model_teacher", "js"):
        assert value(of["distilled"][name]).estimate < value(of["control"][name]).estimate


def test_p_is_the_exact_sign_flip_and_holm_never_lowers_it(report, result):
    differences = hits(result, "distilled").mean(1) - hits(result, "control").mean(1)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=1000
    )
    main = report.difference("distilled", "control")
    assert main.p.estimate == pytest.approx(expected.pvalue)
    assert all(each.p_holm.estimate >= each.p.estimate for each in report.differences)


def test_one_seed_has_mcnemars_p_and_intervals_over_items(fake):
    result = fake(seeds=1, items=200)
    main = build_report(result).difference("distilled", "control")
    first, second = hits(result, "distilled")[0], hits(result, "control")[0]
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    assert main is not None
    assert main.p.estimate == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert main.gain.low is not None


def test_the_same_seed_gives_the_same_report_and_another_moves_intervals_alone(result, report):
    assert build_report(result) == report
    other = build_report(result, seed=1)
    first, second = (each.arm("control").measures["nll"] for each in (report, other))
    assert first != second
    assert value(first).estimate == value(second).estimate


def test_class_gains_average_to_the_gain(report):
    gains = [value(each.gain).estimate for each in report.classes]
    counts = [each.items for each in report.classes]
    main = report.difference("distilled", "control")
    assert np.average(gains, weights=counts) == pytest.approx(main.gain.estimate)


def test_rows_of_the_class_agreement_add_up_to_one(report):
    assert np.sum(report.class_agreement.values, axis=1) == pytest.approx(np.ones(10))
    assert np.diag(report.model_agreement.values) == pytest.approx(np.ones(5))


def test_a_class_without_items_is_said_to_have_none(fake):
    report = build_report(fake(seeds=3, items=9))
    assert report.classes[9].gain == Undefined("no test item is of this class")


def test_without_a_teacher_there_is_no_gap_and_no_fidelity(fake):
    report = build_report(fake(seeds=3, items=60, teacher=None))
    assert isinstance(report.gap, Undefined)
    assert "kappa" not in report.arm("distilled").measures
    assert report.ratios == {}
    assert isinstance(report.differences[0].share, Undefined)


def test_a_teacher_no_better_than_the_control_leaves_no_gap_in_words(fake):
    report = build_report(fake(seeds=3, items=120, teacher=1.75))
    main = report.difference("distilled", "control")
    assert main is not None
    share = main.share
    assert isinstance(share, Undefined)
    assert "not told from zero with these items and seeds" in share.why


def test_a_perfect_teacher_has_no_errors_to_copy(fake):
    result = fake(seeds=3, items=60)
    result = changed(result, "teacher", logits=50.0 * np.eye(10)[result.labels])
    measures = build_report(result).arm("control").measures
    assert measures["agreement_on_errors"] == Undefined("the teacher makes no error on these items")


def test_a_cohort_is_compared_with_its_members_own_controls(fake):
    result = fake(seeds=3, items=60, skill={"wide": 2.2, "narrow": 2.0, "control": 1.8, "alone": 1})
    arms = [
        dataclasses.replace(arm, versus="alone") if arm.name == "narrow" else arm
        for arm in result.arms
    ]
    report = build_report(dataclasses.replace(result, arms=tuple(arms)))
    assert report.student == "wide"
    assert {(each.of, each.versus) for each in report.differences} >= {
        ("wide", "control"),
        ("narrow", "alone"),
    }
    assert report.arm("alone").role == "control"
    assert any(each.startswith("narrow against alone") for each in report.verdict.sentences)


def test_curves_are_means_between_the_least_and_the_greatest_seed(report):
    curve = next(c for c in report.curves if (c.arm, c.term) == ("distilled", "ce"))
    assert len(curve.steps) == 50
    assert np.all(np.diff(curve.steps) > 0)
    assert np.all(np.array(curve.low) <= curve.mean)
    assert np.all(np.array(curve.mean) <= curve.high)


def test_seeds_that_logged_at_other_steps_share_a_curve(result):
    losses = result.student.seeds[0].losses
    late = dataclasses.replace(losses, steps=losses.steps + 2)
    nothing = dataclasses.replace(losses, terms={"ce": np.full(len(losses.steps), np.nan)})
    report = build_report(
        changed(changed(result, "distilled", losses=late), "distilled", 1, losses=nothing)
    )
    curve = next(c for c in report.curves if (c.arm, c.term) == ("distilled", "ce"))
    assert np.isfinite(curve.mean).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seed": 9}, "seed by seed"),
        ({"logits": np.zeros((119, 10))}, "the same items"),
    ],
)
def test_arms_that_cannot_be_compared_get_a_sentence(result, fields, words):
    with pytest.raises(DataError, match=words):
        build_report(changed(result, "control", **fields))


def test_a_model_that_answers_nan_is_named_with_its_seed(result):
    broken = result.arms[1].seeds[2].logits.copy()
    broken[5, 3] = np.nan
    with pytest.raises(NonFiniteError, match="'control', seed 2: 1 items"):
        build_report(changed(result, "control", 2, logits=broken))


def test_labels_outside_the_classes_and_names_twice_get_a_sentence(result):
    with pytest.raises(DataError, match="outside the classes"):
        build_report(dataclasses.replace(result, labels=result.labels - 1))
    with pytest.raises(DataError, match="names must differ"):
        build_report(dataclasses.replace(result, arms=(*result.arms, result.arms[0])))
    with pytest.raises(DataError, match="Name one"):
        build_report(dataclasses.replace(result, arms=result.arms[1:]))


def test_a_rate_of_two_seeds_has_limits_between_0_and_1_and_a_temperature_has_students():
    far = np.array([0.1, 0.6])
    rate = value(over_seeds(far, "fraction", ""))
    assert (rate.low, rate.estimate, rate.high) == (0.0, pytest.approx(0.35), 1.0)
    half = 12.7062 * 0.25  # t of 97.5 % with one degree of freedom, times the standard error
    free = value(over_seeds(far, "number", ""))
    assert (free.low, free.high) == (pytest.approx(0.35 - half), pytest.approx(0.35 + half))


def test_two_seeds_give_no_limit_where_the_quantity_cannot_be(fake):
    for primary_skill in ({"distilled": 9.0, "control": 0.0}, {"distilled": 0.0, "control": 9.0}):
        result = fake(skill=primary_skill, seeds=2, items=40)
        one = dataclasses.replace(result.arms[0].seeds[1], logits=result.arms[1].seeds[1].logits)
        arm = dataclasses.replace(result.arms[0], seeds=(result.arms[0].seeds[0], one))
        report = build_report(dataclasses.replace(result, arms=(arm, *result.arms[1:])))
        main = report.difference("distilled", "control")
        assert main is not None
        values = [each for arm in report.arms for each in arm.measures.values()]
        for found in (*values, main.gain, main.at_least, main.smallest, report.gap):
            if isinstance(found, Value) and found.low is not None:
                least, most = range_of(found.unit)
                assert found.high is not None
                assert least <= found.low <= found.estimate <= found.high <= most
        if primary_skill["control"] > 0:
            # Half a loss of nearly 1, with Student's one degree of freedom.
            assert value(main.gain).low == -1.0
            assert value(main.at_least).estimate >= -1.0
            assert value(main.smallest).estimate == 1.0


def test_the_share_of_a_lead_that_is_hardly_told_from_0_is_not_told_in_thousands_of_percent():
    rng = np.random.default_rng(0)
    control, student = (rng.random((2, 400)) < 0.5 for _ in range(2))
    missed = np.flatnonzero(~control.any(axis=0))
    crossed = Crossed(2, 400, rng)
    said = []
    for lead in range(2, 30, 2):
        teacher = control.copy()
        teacher[:, missed[:lead]] = True
        found = difference(("student", student), ("control", control), teacher, crossed, rng)
        if isinstance(found.share, Value):
            said.append("told")
            low, high = found.share.low, found.share.high
            assert low is not None
            assert high is not None
            assert high - low <= 10
        else:
            said.append(found.share.why)
    assert "of +0.5 points is too uncertain" in said[0]
    assert said[-1] == "told"
