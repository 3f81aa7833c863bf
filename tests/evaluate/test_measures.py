"""Fidelity and task measures in a report: their bounds, and that all of them have intervals."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax
from sklearn.metrics import f1_score

from preceptor.errors import DataError
from preceptor.evaluate.alike import cohen, widest_bound
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.fidelity import acceptance, entropy, error_consistency
from preceptor.evaluate.measures import GROUPS, MEASURES, unit_of
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Report, Undefined, Value
from preceptor.evaluate.results import TrainPart
from preceptor.evaluate.significance import difference, gap, means, share_where, way
from preceptor.ops.calibration import ece
from preceptor.ops.hypotheses import sign_flip
from preceptor.ops.linearised import kappa
from preceptor.ops.proportions import tango, wilson
from preceptor.ops.resampling import Crossed


def value(report: Any, name: str, arm: str = "distilled") -> Any:
    found = report.arm(arm).measures[name]
    assert isinstance(found, Value), (name, found)
    return found


def judged(result: Any) -> Any:
    """Its report, whose numbers the tests know to be there."""
    return build_report(result)


def test_every_measure_is_in_one_group_and_has_a_unit():
    assert sum(map(len, GROUPS.values())) == len(MEASURES)
    assert unit_of("accuracy") == "fraction"
    assert unit_of("nll") == "nats"


def test_overlap_is_one_less_total_variation_and_entropy_scipys():
    generator = np.random.default_rng(0)
    p, q = generator.dirichlet(np.ones(5), (2, 40))
    expected = 1 - np.abs(p - q).sum(axis=-1) / 2
    np.testing.assert_allclose(acceptance(np.log(p), np.log(q)), expected)
    np.testing.assert_allclose(entropy(np.log(p)), stats.entropy(p, axis=-1))


@pytest.mark.parametrize("rates", [(0.9, 0.6), (0.5, 0.5), (0.2, 0.95)])
def test_error_consistency_is_zero_for_strangers_and_never_above_its_bound(rates):
    generator = np.random.default_rng(1)
    first, second = (rates > generator.random((2, 40_000)).T).T
    assert error_consistency(first, second).kappa == pytest.approx(0.0, abs=0.02)
    for trial in range(50):
        a, b = (rates > np.random.default_rng(trial).random((2, 30)).T).T
        found = error_consistency(a, b)
        assert not found.kappa > found.bound + 1e-12
    assert error_consistency(first, first).kappa == pytest.approx(1.0)


def test_what_is_no_mean_over_items_is_still_resampled_over_items(report, result):
    logits = np.stack([one.logits for one in result.student.seeds])
    predicted = logits.argmax(axis=-1)
    confidence = np.exp(log_softmax(logits.astype(float), axis=-1)).max(axis=-1)
    f1 = [f1_score(result.labels, row, average="macro") for row in predicted]
    errors = [ece(c, p == result.labels) for c, p in zip(confidence, predicted, strict=True)]
    for name, expected in (("macro_f1", f1), ("ece", errors)):
        found = value(report, name)
        assert found.estimate == pytest.approx(np.mean(expected))
        assert found.n == 120
        assert found.low < found.estimate < found.high


def test_one_seed_has_an_interval_for_all_but_the_temperature_and_the_time_of_training(fake):
    report = build_report(fake(seeds=1, items=120))
    bare = {
        name
        for name, found in report.arm("distilled").measures.items()
        if isinstance(found, Value) and found.low is None
    }
    assert bare <= {"temperature", "seconds"}


def test_one_seeds_gain_has_the_score_interval(fake):
    result = fake(seeds=1, items=150)
    hits = {arm.name: arm.seeds[0].logits.argmax(axis=-1) == result.labels for arm in result.arms}
    first, second = hits["distilled"], hits["control"]
    expected = tango(int((first & ~second).sum()), int((second & ~first).sum()), 150)
    gain = judged(result).difference("distilled", "control").gain
    assert (gain.low, gain.high) == pytest.approx(expected[1:])


def test_no_gain_is_called_certain_that_the_interval_does_not_show(report):
    for each in report.differences:
        assert each.at_least.estimate == each.gain.low <= each.gain.estimate


def compared(first: Any, second: Any, teacher: Any = None, clusters: Any = None) -> Any:
    rng = np.random.default_rng(0)
    seeds, items = first.shape
    crossed = Crossed(seeds, items, rng, clusters=clusters)
    return difference(("a", first), ("b", second), teacher, crossed, rng)


def test_arms_that_never_differ_may_still_do_so_on_other_items():
    right = np.ones((3, 40), dtype=bool)
    same = compared(right, right)
    assert (same.gain.low, same.gain.high) == pytest.approx(tango(0, 0, 40)[1:])
    assert same.smallest.estimate > 0.1  # Not one item of 40.
    better = compared(right, ~right).gain
    assert (better.estimate, better.low) == pytest.approx(tango(40, 0, 40)[:2])
    groups = compared(right, right, clusters=np.arange(40) // 4).gain
    assert groups.high == pytest.approx(tango(0, 0, 10).high)
    # Seeds that each win one item and lose another, never the same: the draws have no width.
    first, second = right.copy(), right.copy()
    first[range(3), [0, 1, 2]] = second[range(3), [3, 4, 5]] = False
    assert compared(first, second).gain.low == pytest.approx(tango(1, 1, 40).low)
    lead = gap(right, right, Crossed(3, 40, np.random.default_rng(0)))
    assert lead.low is not None
    assert lead.low < 0


def test_one_seeds_share_holds_0_where_its_gain_does():
    rng = np.random.default_rng(1)
    control = rng.random((1, 130)) < 0.5
    teacher = np.ones_like(control)
    signs = set()
    for more in range(1, 16):
        student = control.copy()
        student[0, np.flatnonzero(~control[0])[:more]] = True
        student[0, np.flatnonzero(control[0])[:2]] = False
        found = compared(student, control, teacher)
        gain, share = found.gain, found.share
        assert (gain.low > 0) == (share.low > 0)
        assert (gain.high < 0) == (share.high < 0)
        assert share.estimate == pytest.approx(gain.estimate / (~control).mean())
        signs.add(gain.low > 0)
    assert signs == {True, False}
    unlike = compared(control, control, teacher).share
    assert "on too few items" in unlike.why
    assert [way(0.0, name) for name in ("accuracy", "token_nll", "bits_per_byte")] == [
        "+0.0 points",
        "+0.000 nats",
        "+0.000 bits",
    ]


def test_quality_kept_by_a_student_that_never_differs_has_limits(fake):
    def kept(logits, teacher) -> Any:
        result = fake(seeds=3, items=60)
        labels = np.eye(10)[result.labels]

        def answering(arm, power):
            own = tuple(dataclasses.replace(one, logits=power * labels) for one in arm.seeds)
            return dataclasses.replace(arm, seeds=own)

        arms = tuple(answering(arm, logits) for arm in result.arms)
        changed = dataclasses.replace(result, teacher=answering(result.teacher, teacher), arms=arms)
        return build_report(changed).ratios["quality"]

    both = kept(5.0, 5.0)
    assert (both.estimate, both.low) == pytest.approx((1.0, wilson(60, 60).low))
    assert both.high == pytest.approx(1 / wilson(60, 60).low)
    assert kept(-5.0, 5.0).high > 0.0
    assert kept(5.0, -5.0) == Undefined("the teacher's accuracy is 0: there is none to keep")


@pytest.mark.parametrize(
    ("right", "taught", "why"), [(1, 40, ""), (40, 12, "200 % apart"), (1, 1, "too near to 0")]
)
def test_quality_kept_is_never_below_nothing_and_not_told_where_it_may_be_anything(
    fake, right, taught, why
):
    """The second student has nothing right: draws of the mean lie on both sides of 0."""
    result = fake(seeds=2, items=60)
    labels = np.eye(10)[result.labels]

    def answering(one, first):
        return dataclasses.replace(
            one, logits=np.where(np.arange(60) < first, 5, -5)[:, None] * labels
        )

    def answered(arm, rights):
        own = tuple(answering(one, first) for one, first in zip(arm.seeds, rights, strict=True))
        return dataclasses.replace(arm, seeds=own)

    arms = tuple(answered(arm, (right, 0)) for arm in result.arms)
    teacher = answered(result.teacher, (taught,))
    changed = dataclasses.replace(result, teacher=teacher, arms=arms)
    kept: Any = build_report(changed).ratios["quality"]
    if why:
        assert why in kept.why
    else:
        assert 0 == kept.low < kept.estimate < kept.high


def test_kappa_where_few_items_differ_has_the_limits_of_the_agreement():
    own = np.tile(np.arange(53) % 3, (3, 1))
    master = own.copy()
    crossed = Crossed(3, 53, np.random.default_rng(0))
    # By hand: nothing differs, so Wilson's limit of 53 of 53, less chance at these margins.
    chance = ((np.bincount(own[0]) / 53) ** 2).sum()
    same: Any = cohen(own, master, crossed)
    assert same.low == pytest.approx((wilson(53, 53).low - chance) / (1 - chance))
    assert same.high == 1.0
    for seed in range(3):  # Another item under each seed: no draw differs from the mean.
        own[seed, seed] = (own[seed, seed] + 1) % 3
    found: Any = cohen(own, master, crossed)
    assert found.low < 0.9 < found.estimate < 0.99 < found.high
    many = (own + (np.random.default_rng(0).random((3, 53)) < 0.4)) % 3
    column = np.stack([kappa(a, b) for a, b in zip(many, master, strict=True)])
    free = means({"kappa": column}, {"kappa": "kappa"}, crossed)["kappa"]
    assert cohen(many, master, crossed) == free
    assert cohen(0 * own, 0 * own, crossed) == Undefined("both give one class throughout")


def test_the_bound_of_models_that_are_equally_good_here_is_not_certain():
    first, second = np.ones((2, 3, 80), dtype=bool)
    first[:, :20] = second[:, 10:30] = False  # A quarter wrong, half of it in common.
    crossed = Crossed(3, 80, np.random.default_rng(0))
    flat = Value(1.0, 1.0, 1.0, 80, "greatest kappa")
    found = widest_bound(flat, first, second, crossed)
    gained: Any = gap(first, second, crossed)
    most = -gained.low
    # By hand: they agree on 1 - most at the most, and by chance on 1/16 + 9/16.
    assert found.low == pytest.approx((1 - most - 0.625) / 0.375)
    assert (found.estimate, found.high) == (1.0, 1.0)


def test_a_rate_of_few_errors_has_wilsons_limits_of_what_its_spread_is_worth():
    right = np.ones((5, 60))
    right[[0, 1, 1, 3], [7, 8, 9, 7]] = 0.0
    crossed = Crossed(5, 60, np.random.default_rng(0))
    found = means({"accuracy": right}, {"accuracy": "fraction"}, crossed)["accuracy"]
    worth = right.mean() * (1 - right.mean()) / crossed.means(right[None])[:, 0].var()
    assert worth < right.size
    expected = wilson(right.mean() * worth, worth)
    assert (found.low, found.high) == pytest.approx(expected[1:])


def test_the_first_hit_of_two_seeds_widens_no_limits_unless_seeds_differ_by_more_than_luck():
    def limits(hits, clusters=None):
        crossed = Crossed(2, 105, np.random.default_rng(0), clusters=clusters)
        right = np.zeros((2, 105))
        right[0, :hits] = 1.0
        share: Any = share_where(right == 1, np.ones((2, 105), dtype=bool), crossed, "never")
        found = means({"accuracy": right}, {"accuracy": "fraction"}, crossed)["accuracy"]
        assert (share.low, share.high) == pytest.approx((found.low, found.high))
        assert found.low is not None
        assert found.high is not None
        return found.low, found.high

    groups = np.arange(105) % 18
    assert limits(0, groups) == pytest.approx(wilson(0, 18)[1:])
    assert limits(1, groups) == pytest.approx(wilson(18 / 210, 18)[1:])
    assert limits(1) == pytest.approx(wilson(1 / 2, 105)[1:])
    # By hand: of 8 and 0 the index is 2 * 4^2 / 4 = 8, above chi-squared's 3.84.
    assert limits(8)[1] > 2 * wilson(4, 105).high


def trained_on(result, wrong=0.0):
    """The result with answers to training examples: the test items again, some of them spoilt."""

    def taught(arm):
        seeds = []
        for one in arm.seeds:
            logits = one.logits.copy()
            spoilt = np.arange(len(logits)) < wrong * len(logits)
            logits[spoilt] = np.roll(logits[spoilt], 1, axis=-1)
            seeds.append(dataclasses.replace(one, train=TrainPart(result.labels, logits)))
        return dataclasses.replace(arm, seeds=tuple(seeds))

    return dataclasses.replace(
        result, arms=tuple(map(taught, result.arms)), teacher=taught(result.teacher)
    )


def test_fidelity_on_training_examples_stands_beside_that_on_test_items(result):
    same = build_report(trained_on(result))
    for name in ("accuracy", "agreement", "kappa", "kl_teacher_model"):
        own, train = value(same, name), value(same, f"train_{name}")
        assert train.estimate == pytest.approx(own.estimate)
        assert train.low == pytest.approx(own.low, abs=0.05)
    assert "train_accuracy" in same.arm("teacher").measures
    assert "On training examples" in render_html(same)
    worse = build_report(trained_on(result, wrong=0.5))
    assert value(worse, "train_accuracy").estimate < value(worse, "accuracy").estimate


def test_slices_by_a_column_add_up_to_the_whole_and_clusters_widen(result):
    topics = tuple("odd" if i % 2 else "even <b>" for i in range(120))
    sliced = dataclasses.replace(result, slices={"topic": topics})
    report = judged(sliced)
    rows = report.slices["topic"]
    assert [row.name for row in rows] == ["even <b>", "odd"]
    gains = np.average([row.gain.estimate for row in rows], weights=[row.items for row in rows])
    assert gains == pytest.approx(report.difference("distilled", "control").gain.estimate)
    assert set(rows[0].agreement) == {"distilled", "control"}
    assert "even &lt;b&gt;" in render_html(report)
    assert Report.from_json(report.to_json()) == report

    def repeated(arm):
        seeds = [
            dataclasses.replace(one, logits=np.repeat(one.logits[:40], 3, axis=0))
            for one in arm.seeds
        ]
        return dataclasses.replace(arm, seeds=tuple(seeds))

    alike = dataclasses.replace(
        result,
        labels=np.repeat(result.labels[:40], 3),
        arms=tuple(map(repeated, result.arms)),
        teacher=repeated(result.teacher),
    )
    grouped = dataclasses.replace(alike, clusters=tuple(str(i // 3) for i in range(120)))
    narrow, wide = (judged(each).arm("teacher") for each in (alike, grouped))
    width = [arm.measures["nll"].high - arm.measures["nll"].low for arm in (narrow, wide)]
    assert width[1] == pytest.approx(width[0] * np.sqrt(3), rel=0.25)


def test_one_seeds_test_flips_whole_groups_and_few_groups_are_warned_of(fake):
    one = fake(seeds=1, items=120)
    grouped = dataclasses.replace(one, clusters=tuple(str(i // 10) for i in range(120)))
    report = judged(grouped)
    sides = [arm.seeds[0].logits.argmax(axis=-1) == one.labels for arm in one.arms[:2]]
    sums = (sides[0].astype(float) - sides[1]).reshape(12, 10).sum(axis=1)
    p = report.difference("distilled", "control").p.estimate
    assert p == sign_flip(sums, np.random.default_rng(0))
    assert report.clusters == 12
    assert "Sign flips over the groups" in " ".join(report.verdict.sentences)
    assert "in 12 groups" in render_html(report)
    few = judged(dataclasses.replace(one, clusters=tuple("ab"[i % 2] for i in range(120))))
    assert "belong to 2 groups" in " ".join(few.warnings)


def test_names_for_other_items_than_there_are_get_a_sentence(result):
    with pytest.raises(DataError, match="one name"):
        build_report(dataclasses.replace(result, clusters=("a", "b")))
