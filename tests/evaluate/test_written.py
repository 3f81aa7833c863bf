"""Reports of what writes text: measures a row, more or less of which is better."""

from dataclasses import replace

import numpy as np
import pytest

from preceptor.errors import DataError, NonFiniteError
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.compare import compare, comparison_text
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Report, Undefined, Value
from preceptor.evaluate.results import ArmResult, ModelCost, RunResult, SeedResult
from preceptor.evaluate.tables import render_markdown, render_text
from preceptor.ops.linearised import ratio

ITEMS = 200
COST = ModelCost(1000, 4000, 10_000)
BITS = {"teacher": 1.5, "distilled": 1.8, "control": 2.0, "smoothing": 2.02}


def _run(primary: str, levels: dict[str, float] = BITS, seeds: int = 5) -> RunResult:
    draw = np.random.default_rng(0)
    hard = draw.gamma(20, 1 / 20, ITEMS)

    def arm(name: str, level: float, count: int) -> ArmResult:
        own = []
        for seed in range(count):
            numbers = level * hard + 0.02 * draw.normal(size=ITEMS) + 0.01 * draw.normal()
            hit = (draw.random(ITEMS) < 1 / level).astype(float)
            items = {"accuracy": hit, "bits_per_byte": numbers, "token_agreement": hit}
            own.append(SeedResult(seed, None, 10, 1.0, items=items))
        return ArmResult(name, tuple(own), COST)

    arms = tuple(arm(n, b, seeds) for n, b in levels.items() if n != "teacher")
    teacher = arm("teacher", levels["teacher"], 1)
    return RunResult(
        name="prose",
        labels=np.arange(ITEMS),
        classes=(),
        arms=arms,
        teacher=teacher,
        recipe="{}",
        primary=primary,
    )


def test_fewer_bits_are_a_gain() -> None:
    report = build_report(_run("bits_per_byte"))
    main = report.difference("distilled", "control")
    assert main is not None
    assert isinstance(main.gain.low, float)
    assert main.gain.low > 0
    assert main.gain.unit == "bits gained"
    assert report.verdict.kind == "helped"
    bits = {arm.name: arm.measures["bits_per_byte"] for arm in report.arms}
    assert isinstance(bits["control"], Value)
    assert isinstance(bits["distilled"], Value)
    expected = bits["control"].estimate - bits["distilled"].estimate
    assert main.gain.estimate == pytest.approx(expected)
    assert isinstance(main.share, Value)
    assert main.share.estimate == pytest.approx(0.4, abs=0.05)


def test_a_slice_of_long_rows_has_its_own_bits_a_byte() -> None:
    run = _run("bits_per_byte", seeds=3)
    sizes = np.where(np.arange(ITEMS) % 4 == 0, 90.0, 10.0)
    tags = tuple("long" if size > 50 else "short" for size in sizes)

    def of_text(arm: ArmResult) -> ArmResult:
        seeds = [
            replace(one, sizes=sizes, items={**one.items, "bits_per_byte": ratio(bits, sizes)})
            for one in arm.seeds
            for bits in [one.items["bits_per_byte"] * sizes]
        ]
        return replace(arm, seeds=tuple(seeds))

    arms = tuple(map(of_text, run.arms))
    assert run.teacher is not None
    sliced = replace(run, arms=arms, teacher=of_text(run.teacher), slices={"tag": tags})
    each = {row.name: row for row in build_report(sliced).slices["tag"]}
    for name, row in each.items():
        there = np.array([tag == name for tag in tags])
        seeds = (one.items["bits_per_byte"] for one in run.student.seeds)
        expected = np.mean([column[there].mean() for column in seeds])
        assert row.accuracy["distilled"].estimate == pytest.approx(expected)


def test_more_bits_are_a_loss() -> None:
    worse = {**BITS, "distilled": 2.3}
    assert build_report(_run("bits_per_byte", worse)).verdict.kind == "hurt"


def test_with_one_seed_rows_tell_the_chance_and_not_the_method() -> None:
    report = build_report(_run("bits_per_byte", seeds=1))
    assert report.verdict.kind == "not enough seeds"
    assert "Sign flips over the test items" in " ".join(report.verdict.sentences)


def test_agreement_beyond_chance_names_the_final_answers_where_tokens_are_told_too() -> None:
    result = _run("accuracy", seeds=3)

    def written(arm: ArmResult) -> ArmResult:
        seeds = []
        for one in arm.seeds:
            finals = tuple(
                "7" if hit else f"{k % 3}" for k, hit in enumerate(one.items["accuracy"])
            )
            seeds.append(replace(one, finals=finals, texts=finals))
        return replace(arm, seeds=tuple(seeds))

    assert result.teacher is not None
    told = replace(result, teacher=written(result.teacher), arms=tuple(map(written, result.arms)))
    (found,) = (each for each in build_report(told).verdict.sentences if "Cohen" in each)
    assert found.startswith("Of the final answers, beyond chance that is 0.")


def test_a_student_that_writes_no_step_under_one_seed_is_judged_on_those_that_it_wrote() -> None:
    result = _run("accuracy", seeds=2)

    def written(arm: ArmResult, steps: int) -> ArmResult:
        seeds = []
        for i, one in enumerate(arm.seeds):
            held = steps if i == 0 else 0
            texts = tuple(f"{'1 + 1 = 2 ' if k < held else ''}#### {k % 3}" for k in range(ITEMS))
            seeds.append(replace(one, finals=tuple(f"{k % 3}" for k in range(ITEMS)), texts=texts))
        return replace(arm, seeds=tuple(seeds))

    assert result.teacher is not None
    arms = tuple(written(arm, 30 if arm.name == "distilled" else 0) for arm in result.arms)
    report = build_report(replace(result, teacher=written(result.teacher, 60), arms=arms))
    found = report.arm("distilled").measures["follows_steps"]
    assert isinstance(found, Value)
    assert (found.estimate, found.n) == (pytest.approx(1 / 3), 15)  # 30 of one seed, 0 of another.
    none = Undefined("no text holds an equation")
    assert report.arm("control").measures["follows_steps"] == none
    assert "no text holds an equation" in render_html(report)
    # Measured under one seed alone, a column is said to lack the other.
    lame = replace(
        result.arms[0].seeds[0], items={**result.arms[0].seeds[0].items, "length": np.ones(ITEMS)}
    )
    arms = (replace(result.arms[0], seeds=(lame, *result.arms[0].seeds[1:])), *result.arms[1:])
    said = build_report(replace(result, arms=arms)).arm("distilled").measures["length"]
    assert said == Undefined("it is not a number, under 1 of 2 seeds")


@pytest.mark.parametrize("primary", ["bits_per_byte", "accuracy"])
def test_pages_tables_and_comparisons_name_the_measure(primary: str) -> None:
    report = build_report(_run(primary))
    assert Report.from_json(report.to_json()) == report
    words = {"bits_per_byte": "bits per byte", "accuracy": "accuracy"}[primary]
    for text in (render_html(report), render_markdown(report), render_text(report)):
        assert words in text.lower()
    assert isinstance(report.model_agreement, Undefined)
    assert report.classes == ()
    assert "prose" in comparison_text(compare({"prose": report}))


def test_answers_that_are_right_or_wrong_are_tested_as_such() -> None:
    report = build_report(_run("accuracy"))
    main = report.difference("distilled", "control")
    assert main is not None
    assert main.gain.unit == "difference"
    assert main.smallest.unit == "points"
    assert all(value.unit == "fraction" for value in report.arm("distilled").by_seed)


def test_a_missing_measure_and_a_number_that_is_none_are_refused() -> None:
    run = _run("length")
    with pytest.raises(DataError, match="the verdict is about length"):
        build_report(run)
    run = _run("bits_per_byte")
    numbers = run.arms[0].seeds[0].items["bits_per_byte"]
    numbers[3] = np.nan
    with pytest.raises(NonFiniteError, match="bits_per_byte has 200 numbers, 1 of them"):
        build_report(run)
