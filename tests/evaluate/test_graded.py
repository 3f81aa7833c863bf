"""Similarities of embeddings beside the grades that people gave."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from preceptor.evaluate.graded import graded_measures
from preceptor.evaluate.report import Undefined, Value
from preceptor.evaluate.results import ArmResult, ModelCost, SeedResult
from preceptor.ops import linearised
from preceptor.ops.resampling import Crossed

PAIRS = 150
COST = ModelCost(1, 1, 1)


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Grades in steps of a fifth, with ties, and similarities that follow them."""
    draw = np.random.default_rng(seed)
    grades = np.round(draw.uniform(0, 5, PAIRS) * 5) / 5
    return grades, np.tanh(grades / 5 + draw.normal(0, 0.4, PAIRS))


def _rho(first: np.ndarray, second: np.ndarray) -> float:
    found: Any = spearmanr(first, second)
    return float(found[0])


def arm(name: str, *cosines: np.ndarray) -> ArmResult:
    seeds = (SeedResult(k, None, 0, 0.0, graded=each) for k, each in enumerate(cosines))
    return ArmResult(name, tuple(seeds), COST)


def test_the_interval_is_that_of_a_bootstrap_of_whole_pairs() -> None:
    grades, similar = world()
    draw = np.random.default_rng(2)
    column = linearised.rank_correlation(similar, grades)
    picked = draw.integers(0, PAIRS, (600, PAIRS))
    drawn = [_rho(similar[rows], grades[rows]) for rows in picked]
    assert column[picked].mean(axis=1).std() == pytest.approx(np.std(drawn), rel=0.1)
    # With ranks held still the pairs' own part alone would be seen.
    assert column.mean() == pytest.approx(_rho(similar, grades))


def test_student_control_and_teacher_stand_beside_grades_and_each_other() -> None:
    grades, similar = world()
    noise = np.random.default_rng(3).normal(0, 1.0, PAIRS)
    student, control = (
        arm("distilled", similar, similar + 0.1 * noise),
        arm("control", noise, noise),
    )
    teacher = arm("teacher", grades + 0.5 * noise)
    crossed = Crossed(2, PAIRS, np.random.default_rng(0))
    found = graded_measures(student, control, teacher, grades, crossed)
    numbers = {name: value for name, value in found.items() if isinstance(value, Value)}
    assert set(numbers) == {
        "graded_spearman",
        "graded_pearson",
        "graded_teacher",
        "graded_gained",
    }
    sides = similar, similar + 0.1 * noise
    rho = np.mean([_rho(side, grades) for side in sides])
    assert numbers["graded_spearman"].estimate == pytest.approx(rho)
    r = np.mean([np.corrcoef(side, grades)[0, 1] for side in sides])
    assert numbers["graded_pearson"].estimate == pytest.approx(r)
    gained = numbers["graded_gained"]
    assert gained.estimate == pytest.approx(rho - _rho(noise, grades))
    assert gained.low is not None
    assert 0 < gained.low < gained.estimate
    same = graded_measures(arm("a", np.ones(PAIRS)), None, None, grades, crossed)
    assert isinstance(same["graded_spearman"], Undefined)
    nobody = ArmResult("b", (SeedResult(0, None, 0, 0.0),), COST)
    assert graded_measures(nobody, None, None, grades, crossed) == {}
