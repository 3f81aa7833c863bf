from dataclasses import replace

import numpy as np
import pytest
from markupsafe import Markup
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from preceptor.errors import StorageError
from preceptor.evaluate.report import Undefined, Value
from preceptor.evaluate.study.cells import Answered, Compared
from preceptor.evaluate.study.findings import findings
from preceptor.evaluate.study.measures import (
    measured,
    over_items,
    over_tasks,
    rate_over_items,
)
from preceptor.evaluate.study.render import render_study, study_text
from preceptor.evaluate.study.study import Finding, Study
from preceptor.ops.proportions import tango, wilson
from tests.evaluate.study.trials import flat, grid, judged, told, without

PLACE = ("task", "student", "teacher", "method")


def all_but_the_control_are_good(role: str, student: str, seed: int) -> float:
    del student, seed
    return 0.6 if role == "control" else 0.9


def small_gain_more(role: str, student: str, seed: int) -> float:
    del seed
    gains = {"small": 0.25, "middle": 0.12, "large": 0.0, "": 0.0}
    return {"teacher": 0.9, "control": 0.6, "taught": 0.6 + gains[student]}[role]


def finding(study: Study, words: str) -> Finding:
    return next(each for each in study.findings if words in each.question)


def by_hand() -> Compared:
    labels = [0, 0, 0, 0, 1, 1, 1, 2]
    return Compared(
        PLACE,
        "true",
        "",
        0,
        taught=told([0, 0, 0, 1, 1, 1, 2, 2], labels),
        control=told([0, 0, 1, 1, 1, 0, 2, 2], labels),
        teacher=told([0, 0, 0, 0, 1, 1, 2, 1], labels),
        rival=told([0, 0, 0, 2, 1, 1, 1, 2], labels),
    )


def test_measures_of_one_comparison_by_hand() -> None:
    trial = by_hand()
    found = measured(trial)
    assert found["accuracy"] == 6 / 8
    assert found["control_accuracy"] == 4 / 8
    assert found["teacher_accuracy"] == 6 / 8
    assert found["gain"] == pytest.approx(2 / 8)
    assert found["agreement"] == 6 / 8
    assert found["control_agreement"] == 4 / 8
    assert found["specific"] == pytest.approx(6 / 8 - 6 / 8)
    assert found["control_specific"] == pytest.approx(4 / 8 - 4 / 8)
    assert found["expertise"] == pytest.approx((6 / 8 - 4 / 8) / (1 - 4 / 8))
    kappa = cohen_kappa_score(trial.taught.answers, trial.teacher.answers)
    assert found["kappa"] == pytest.approx(kappa)


def test_words_are_compared_as_classes_are_and_tokens_only_where_they_are_the_same_ones() -> None:
    words = np.array(["four", "5", ""])
    plain = by_hand()
    sides: dict[str, Answered] = {
        name: replace(
            getattr(plain, name),
            answers=tuple(words[list(getattr(plain, name).answers)].tolist()),
            labels=tuple(words[list(plain.labels)].tolist()),
            tokens=(1, 2, 3, k),
            asked="same" if name != "control" else "another tokenizer's",
        )
        for k, name in enumerate(("taught", "control", "teacher", "rival"))
    }
    found, expected = measured(replace(plain, **sides)), measured(plain)
    assert found["token_agreement"] == 3 / 4
    assert np.isnan(found["control_token_agreement"])
    assert np.isnan(expected["token_agreement"])
    shared = [name for name in expected if "token" not in name]
    assert [found[name] for name in shared] == [expected[name] for name in shared]
    study = judged([replace(plain, **sides)])
    row = next(each for each in study.fidelity if "token" in each.measure)
    assert row.control == Undefined("student and teacher read no task in the same tokens")
    assert "token" not in "".join(each.measure for each in judged([plain]).fidelity)


def test_a_collapsed_student_counts_as_one_that_always_answers_the_commonest_class() -> None:
    trial = replace(by_hand(), taught=without("collapsed"))
    assert trial.whole
    assert measured(trial)["accuracy"] == 4 / 8
    assert measured(trial)["gain"] == pytest.approx(0.0)


def test_a_failed_cell_leaves_its_comparisons_out_and_no_others() -> None:
    trials = grid(flat, tasks=4)
    broken = [replace(trials[0], taught=without("failed")), *trials[1:]]
    study = judged(broken)
    place = next(p for p in study.places if (p.task, p.student) == ("task 0", "small"))
    assert place.seeds == 2
    assert all(p.seeds == 3 for p in study.places if p is not place)


def test_the_mean_over_tasks_has_students_interval() -> None:
    numbers = np.array([0.1, 0.3, -0.05, 0.2])
    found = over_tasks(numbers, "difference")
    expected = stats.t.interval(0.95, 3, numbers.mean(), stats.sem(numbers))
    assert isinstance(found, Value)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.n == 4
    rates = over_tasks(np.array([0.9, 1.0, 1.0]), "fraction")
    assert isinstance(rates, Value)
    assert rates.high == 1.0
    two = over_tasks(numbers[:2], "difference")
    assert isinstance(two, Value)
    assert two.low is None
    assert isinstance(over_tasks(np.array([np.nan]), "difference"), Undefined)


def test_limits_end_where_the_quantity_itself_must() -> None:
    far = np.array([-0.9, 0.9, 0.8])
    for unit, least in (("difference", -1.0), ("difference of differences", -2.0)):
        found = over_tasks(far, unit)
        assert isinstance(found, Value)
        expected = stats.t.interval(0.95, 2, far.mean(), stats.sem(far))
        assert expected[0] < -1.8
        assert found.low == pytest.approx(max(least, expected[0]))
    labels = [0] * 20
    pair = [
        replace(
            by_hand(), seed=k, taught=told([k] * 20, labels), control=told([1 - k] * 20, labels)
        )
        for k in range(2)
    ]  # Two seeds, of which one gains everything and one loses everything.
    two = over_items(
        [[replace(t, teacher=t.taught, rival=None) for t in pair]], np.random.default_rng(0)
    )
    assert isinstance(two, Value)
    assert (two.low, two.high) == (-1.0, 1.0)


def test_a_tasks_gain_is_paired_over_seeds_and_items() -> None:
    trials = grid(small_gain_more, tasks=1)
    small = [each for each in trials if each.place[1] == "small"]
    found = over_items([small], np.random.default_rng(0))
    gains = [measured(each)["gain"] for each in small]
    assert isinstance(found, Value)
    assert found.estimate == pytest.approx(np.mean(gains))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.estimate < found.high
    for who in ("taught", "control", "teacher"):
        rate = rate_over_items([small], who, np.random.default_rng(0))
        assert isinstance(rate, Value)
        right = np.mean([np.array(getattr(t, who).answers) == t.labels for t in small])
        assert rate.estimate == pytest.approx(right)
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low < right < rate.high <= 1.0


def test_planted_gains_of_the_small_are_found() -> None:
    study = judged(grid(small_gain_more))
    assert finding(study, "help").answer == "yes"
    assert finding(study, "smaller").answer == "yes"
    assert [row.name for row in study.students] == ["small", "middle", "large"]
    size = next(r for r in study.correlations if r.first == "parameters")
    assert isinstance(size.rho, Value)
    assert size.rho.estimate < -0.8
    assert isinstance(size.p_holm, Value)
    assert size.p_holm.estimate < 0.05
    difference = study.small_minus_large
    assert isinstance(difference, Value)
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < 0.25 < difference.high


def test_nothing_is_found_where_nothing_is() -> None:
    study = judged(grid(flat))
    assert finding(study, "help").answer == "not shown"
    assert finding(study, "smaller").answer == "not shown"
    assert finding(study, "imitate").answer == "not shown"
    assert finding(study, "teachers").answer == "not shown"


def test_an_answer_names_the_tests_it_rests_on_and_what_other_forms_show() -> None:
    study = judged(grid(flat, tasks=3, seeds=1))
    shown = Value(0.9, 0.5, 1.0, 3, "rho"), Value(0.001, None, None, 3, "p")
    by_form = {("agreement", "tasks"): 0.001, ("agreement", "students"): 0.059}
    by_form |= {("Cohen's kappa", "students"): 0.035}
    rows = [
        replace(row, rho=shown[0], p=shown[1], p_holm=replace(shown[1], estimate=p))
        for row in study.correlations
        for (first, across), p in by_form.items()
        if (row.across, row.second) == (across, "accuracy") and row.first.startswith(first)
    ]
    nothing = Undefined("not looked at")
    every = findings(study.mean_gain, nothing, [], [], rows, study.fidelity, [], [])
    asked = next(each for each in every if "follow accuracy" in each.question)
    assert asked.answer == "not shown"
    assert asked.sentences[1:3] == (
        "The answer rests on tests fixed beforehand, which must all show it: agreement across "
        "tasks shows it and agreement within tasks does not show it.",
        "Of the other forms, Cohen's kappa within tasks shows it.",
    )


def test_a_student_that_copies_its_teacher_is_told_from_one_that_is_merely_as_good() -> None:
    copied = [replace(each, taught=each.teacher) for each in grid(flat)]
    study = judged(copied)
    assert finding(study, "imitate").answer == "yes"
    agreement = study.fidelity[0].taught
    assert isinstance(agreement, Value)
    assert agreement.estimate == 1.0
    good = judged(grid(all_but_the_control_are_good))
    assert finding(good, "imitate").answer == "not shown"


def option_trials() -> list[Compared]:
    """Option a is the best on validation, b on the test items."""
    labels = [0, 1, 2, 3] * 5
    wrong = [1, 2, 3, 0] * 5
    found = []
    for task in ("one", "two", "three"):
        for option, answers, held in (("a", wrong, 0.9), ("b", labels, 0.4)):
            taught, control, teacher = (
                told(answers, labels, held),
                told(wrong, labels),
                told(labels, labels),
            )
            place = (task, "student", "teacher", "kd")
            found.append(Compared(place, "true", option, 0, taught, control, teacher, None))
    return found


def test_what_is_chosen_is_chosen_on_validation_whatever_the_test_says() -> None:
    study = judged(option_trials(), ["a", "b"])
    assert {place.option for place in study.places} == {"a"}
    assert {place.measures["gain"] for place in study.places} == {0.0}
    rows = {row.name: row for row in study.options}
    assert (rows["a"].chosen, rows["b"].chosen) == (3, 0)
    assert isinstance(rows["b"].gain, Value)
    assert rows["b"].gain.estimate == 1.0
    assert isinstance(rows["b"].against_first, Value)
    assert rows["b"].against_first.estimate == 1.0
    assert finding(study, "setting").answer == "yes"


def test_the_control_chooses_among_as_many_where_the_option_concerns_it() -> None:
    trials = option_trials()
    better = told([0, 1, 2, 3] * 5, [0, 1, 2, 3] * 5, 0.99)
    trials = [replace(t, control=better) if t.option == "b" else t for t in trials]
    study = judged(trials, ["a", "b"])
    assert {place.option for place in study.places} == {"a"}
    assert {place.measures["control_accuracy"] for place in study.places} == {1.0}


def test_signals_are_set_beside_the_true_one_at_the_same_places() -> None:
    trials = grid(small_gain_more, tasks=2)
    spoilt = [
        replace(each, signal="noised", taught=each.control)
        for each in trials
        if each.place[0] == "task 1"
    ]
    study = judged([*trials, *spoilt])
    assert {row.task for row in study.signals} == {"task 1"}
    rows = {row.signal: row for row in study.signals}
    assert isinstance(rows["true"].gain, Value)
    assert isinstance(rows["noised"].against_true, Value)
    assert rows["noised"].against_true.estimate == pytest.approx(-rows["true"].gain.estimate)
    assert finding(study, "what the teacher says").answer == "yes"


def test_signals_do_not_touch_the_main_tables() -> None:
    trials = grid(small_gain_more, tasks=4)
    spoilt = [replace(each, signal="random", taught=each.control) for each in trials]
    assert judged([*trials, *spoilt]).students == judged(trials).students


def test_one_place_and_one_seed_make_a_study_without_limits() -> None:
    study = judged(grid(flat, tasks=1, seeds=1)[:1])
    assert isinstance(study.mean_gain, Value)
    assert study.mean_gain.low is None
    assert isinstance(study.small_minus_large, Undefined)
    assert "Did distillation help" in study_text(study)
    page = render_study(study)
    assert page.startswith("<!doctype html>")
    assert "1 task: too few for limits" in page
    assert "(1 task: too few for limits)" in study_text(study)
    assert "one seed" not in page


def test_every_place_has_limits_even_where_nothing_differs() -> None:
    labels = [0, 1] * 20
    right = told(labels, labels)
    alike = [
        replace(by_hand(), seed=k, taught=right, control=right, teacher=right, rival=None)
        for k in range(3)
    ]
    study = judged(alike)
    (place,), (task,) = study.places, study.tasks
    for found in (place.values["gain"], task.gain):
        assert isinstance(found, Value)
        assert (found.low, found.high) == pytest.approx(tango(0, 0, 40)[1:])
    for found in (place.values["agreement"], task.taught):
        assert isinstance(found, Value)
        assert found.low == pytest.approx(wilson(40, 40).low)
    kappa = place.values["kappa"]
    assert isinstance(kappa, Value)
    assert kappa.low == pytest.approx((wilson(40, 40).low - 0.5) / 0.5)  # Chance is a half.
    assert "the same throughout" not in render_study(study)
    (first, *_) = judged(grid(small_gain_more, tasks=1, items=60)).places
    for name, found in first.values.items():
        assert isinstance(found, Value)
        assert found.estimate == pytest.approx(first.measures[name])
        assert found.low is not None
        assert found.low < found.estimate


def test_a_study_without_one_whole_comparison_says_so() -> None:
    trials = [replace(each, teacher=without("failed")) for each in grid(flat, tasks=1)]
    study = judged(trials)
    assert study.places == ()
    assert "Did distillation help" in study_text(study)
    assert render_study(study).startswith("<!doctype html>")


def test_models_that_know_nothing_are_listed() -> None:
    trial = by_hand()
    lost = replace(trial, taught=told([0] * 8, trial.labels))
    troubles = judged([lost]).troubles
    assert [each.state for each in troubles] == ["knows nothing", "knows nothing"]
    assert any("student taught by teacher" in each.cell for each in troubles)


def test_a_study_survives_json() -> None:
    study = judged(grid(small_gain_more))
    assert Study.from_json(study.to_json()) == study


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "preceptor.study/1"}', "[1]"])
def test_what_is_no_study_is_refused(text: str) -> None:
    with pytest.raises(StorageError):
        Study.from_json(text)


def test_a_cell_survives_json_and_a_broken_one_is_refused() -> None:
    cell = by_hand().taught
    assert Answered.from_json(cell.to_json()) == cell
    with pytest.raises(StorageError, match="does not hold a cell"):
        Answered.from_json('{"state": "done"}')


@pytest.mark.parametrize(
    "hostile", ['<script>alert("1")</script>\'&', "x" * 200, "../מבחן/\n{{ 7 * 7 }} $\\frac12$"]
)
def test_names_cannot_break_the_page(hostile: str) -> None:
    trials = [
        replace(each, place=(f"{hostile}{each.place[0]}", hostile, hostile, hostile), signal=signal)
        for each in grid(flat, tasks=3, items=40)
        for signal in ("true", hostile)
    ]
    trials[0] = replace(trials[0], taught=without("collapsed", hostile))
    study = judged(trials)
    page = render_study(study)
    assert "<script" not in page
    assert str(Markup.escape(hostile)) in page
    assert not any("x" * 61 in sentence for each in study.findings for sentence in each.sentences)
    assert hostile not in study_text(study).split("\n\n")[0] or len(hostile) < 41


def test_a_page_holds_many_places() -> None:
    page = render_study(judged(grid(flat, tasks=20, seeds=2, items=40)))
    assert page.count("<tr>") > 100
    assert len(page) < 1_000_000
