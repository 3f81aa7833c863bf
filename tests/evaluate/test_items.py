"""Runs are paired item by item where their test items are the same."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.compare import (
    compare,
    comparison_html,
    comparison_markdown,
    comparison_text,
)
from preceptor.evaluate.items import Items, items_of
from preceptor.ops.hypotheses import sign_flip


def test_an_arm_has_a_one_for_each_right_answer(fake):
    result = fake(seeds=2, items=40)
    found = items_of(result)
    for arm in result.arms:
        for good, one in zip(found.arms[arm.name], arm.seeds, strict=True):
            assert good.tolist() == (one.logits.argmax(-1) == result.labels).tolist()
    assert found.seeds == tuple(one.seed for one in result.student.seeds)


def test_students_of_two_runs_are_paired_over_seeds_and_items(fake):
    strong, weak = fake(seeds=5, items=200), fake(seeds=5, items=200, skill={"distilled": 0.4})
    results = {"weak": weak, "strong": strong}
    reports = {name: build_report(result) for name, result in results.items()}
    items = {name: items_of(result) for name, result in results.items()}
    found = compare(reports, items)
    (only,) = found.differences
    ours, theirs = (items[name].arms["distilled"] for name in ("strong", "weak"))
    assert (only.of, only.versus) == ("strong", "weak")
    assert only.gain.estimate == pytest.approx((ours - theirs).mean())
    assert only.gain.low is not None
    assert only.gain.low > 0
    # Five seeds, all for the stronger one: two of the 32 flips are as far out.
    assert only.p.estimate == pytest.approx(2 / 32)
    assert "strong" in comparison_text(found)
    assert "Student by student" in comparison_html(found)
    assert "paired gain" in comparison_markdown(found)
    plain = json.loads(found.to_json())
    assert plain["schema"] == "preceptor.comparison/1"
    assert plain["differences"][0]["gain"]["estimate"] == only.gain.estimate


def test_one_seed_of_each_is_mcnemars_test(fake):
    results = {name: fake(seeds=1, items=120, skill={"distilled": s}) for name, s in SKILLS}
    items = {name: items_of(result) for name, result in results.items()}
    reports = {name: build_report(result) for name, result in results.items()}
    (only,) = compare(reports, items).differences
    first, second = (items[name].arms["distilled"][0] for name, _ in SKILLS)
    gained, lost = int((second > first).sum()), int((second < first).sum())
    expected = stats.binomtest(gained, gained + lost).pvalue
    assert only.p.estimate == pytest.approx(expected)
    groups = tuple(str(i // 12) for i in range(120))
    grouped = {name: dataclasses.replace(each, clusters=groups) for name, each in items.items()}
    (drawn,) = compare(reports, grouped).differences
    sums = (second - first).reshape(10, 12).sum(axis=1)
    assert drawn.p.estimate == sign_flip(sums, np.random.default_rng(0))


SKILLS = (("a", 0.5), ("b", 1.0))


def test_what_cannot_be_paired_is_said_and_not_paired(fake):
    result = fake(seeds=2, items=40)
    report, own = build_report(result), items_of(result)
    others = {
        "test items differ": items_of(fake(seeds=2, items=40, test="there")),
        "measures differ": Items("", "bits_per_byte", own.seeds, own.arms),
        "seeds differ": Items("", own.primary, (7, 8), own.arms),
        "no scores of single items": None,
    }
    for words, other in others.items():
        found = compare({"a": report, "b": report}, {"a": own, "b": other})
        assert not found.differences
        assert words in found.notes[0]


def test_runs_are_paired_within_each_group_that_shares_its_test_items(fake):
    result = fake(seeds=3, items=40)
    report, here = build_report(result), items_of(result)
    there, less = items_of(fake(seeds=3, items=40, test="there")), items_of(fake(seeds=2, items=40))
    items = {"lone": less, "a": there, "b": here, "c": there, "d": here, "e": there}
    found = compare(dict.fromkeys(items, report), items)
    pairs = [(each.of, each.versus) for each in found.differences]
    assert pairs == [("c", "a"), ("e", "a"), ("d", "b")]
    assert found.notes[0].startswith("2 groups of runs share test items and seeds (3 with a; 2")
    assert found.notes[1] == "Not paired with any run, for the seeds differ: lone."
    alone = compare(dict.fromkeys("ac", report), {"a": there, "c": there}).differences
    assert alone[0].gain == found.differences[0].gain
