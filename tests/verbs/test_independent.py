"""A teacher that the student never met, beside its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preceptor.errors import RecipeError
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.report import Report, Undefined, Value
from preceptor.evaluate.results import RunResult
from preceptor.evaluate.stored import load_results
from preceptor.recipe.load import recipe_of
from tests.verbs.small import KD, MLP, ran, small, stage
from tests.verbs.text import sums, written_recipe

ASKED = ["accuracy", "independent"]


def _stored(run: Path) -> RunResult:
    stored = load_results(run)
    assert stored is not None
    return stored.result


def number(report: Report, arm: str, name: str) -> Value:
    found = report.arm(arm).measures[name]
    assert isinstance(found, Value), found
    return found


def test_a_second_teacher_is_trained_from_another_seed_and_taken_away(tmp_path: Path) -> None:
    report = ran(small(seed={"count": 2}, evaluate=ASKED), tmp_path / "run")
    assert report.arm("independent").role == "independent"
    result = _stored(tmp_path / "run")
    assert result.teacher is not None
    assert result.independent is not None

    def said(arm: Any) -> np.ndarray:
        return np.stack([one.logits.argmax(axis=-1) for one in arm.seeds])

    own, other = said(result.teacher), said(result.independent)
    assert (result.teacher.seeds[0].logits != result.independent.seeds[0].logits).any()
    for arm in result.arms:
        expected = (said(arm) == own).mean() - (said(arm) == other).mean()
        assert number(report, arm.name, "specific").estimate == pytest.approx(expected)
    gained = number(report, "distilled", "specific_gained")
    sides = [number(report, arm, "specific").estimate for arm in ("distilled", "control")]
    assert gained.estimate == pytest.approx(sides[0] - sides[1])
    assert "specific_gained" not in report.arm("control").measures
    assert any("an independent one" in each for each in report.verdict.sentences)
    _named_it_is_the_same(report, tmp_path)


def _named_it_is_the_same(report: Report, folder: Path) -> None:
    both = [
        {"model": MLP, "load": str(folder / f"run/teachers/{name}/student")}
        for name in ("teacher", "independent")
    ]
    said = small(seed={"count": 2}, evaluate=ASKED, teacher=both[0], independent=both[1])
    again = ran(said, folder / "again")
    found, expected = (number(each, "distilled", "specific") for each in (again, report))
    assert found.estimate == expected.estimate


def test_where_each_seed_has_its_own_teacher_those_of_other_seeds_are_taken(tmp_path: Path) -> None:
    told = {"teacher": {"born_again": {}}, "stages": [stage(KD)], "student": {"model": MLP}}
    ran(small(seed={"count": 3}, evaluate=ASKED, **told), tmp_path / "run")
    result = _stored(tmp_path / "run")
    teacher, other = result.teacher, result.independent
    assert teacher is not None
    assert other is not None
    for k in range(3):
        assert (other.seeds[k].logits == teacher.seeds[(k + 1) % 3].logits).all()
    assert not (tmp_path / "run" / "teachers").exists()


def test_what_is_written_and_every_token_are_compared_with_both(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), evaluate=ASKED)
    report = ran(recipe, tmp_path / "run")
    told = report.arm("distilled").measures["agreement"]
    assert told == Undefined("fidelity was not asked for")
    report = build_report(_stored(tmp_path / "run"))
    for name, beside in (("specific", "agreement"), ("token_specific", "token_agreement")):
        own, other = (number(report, "distilled", f"{which}{beside}") for which in ("", "rival_"))
        difference = own.estimate - other.estimate
        assert number(report, "distilled", name).estimate == pytest.approx(difference)


def test_a_teacher_that_was_not_trained_here_needs_one_that_is_named(tmp_path: Path) -> None:
    data = small(evaluate=ASKED, teacher={"model": MLP, "load": str(tmp_path)})
    with pytest.raises(RecipeError, match="cannot be trained again from another seed"):
        recipe_of(data)
    recipe_of({**data, "independent": {"model": MLP, "load": str(tmp_path)}})
    with pytest.raises(RecipeError, match="nobody asks about it"):
        recipe_of(small(independent={"model": MLP, "load": str(tmp_path)}))
