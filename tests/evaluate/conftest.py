"""A run's results from a seeded generator: noisy logits around the truth, as good as asked."""

import numpy as np
import pytest

from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.results import (
    ArmResult,
    Losses,
    ModelCost,
    RunResult,
    SeedResult,
    Validation,
)
from preceptor.evaluate.timing import Timing

SMALL, BIG = ModelCost(3_800, 15_600, 210_000), ModelCost(288_000, 1_160_000, 9_300_000)
SKILL = {"distilled": 2.0, "control": 1.75, "smoothing": 1.8, "longer": 1.76}


def fake_result(
    *,
    skill=SKILL,
    seeds=8,
    items=500,
    classes=tuple("0123456789"),
    teacher=3.4,
    teacher_seeds=1,
    unlabelled=0,
    **more,
):
    """Arms share each item's difficulty; students of a teacher share part of its noise."""
    rng = np.random.default_rng(0)
    count = len(classes)
    labels = np.arange(items) % count
    truth, ease = np.eye(count)[labels], rng.gamma(8.0, 0.125, (items, 1))
    shared = rng.normal(size=(items, count))
    held = np.arange(60) % count

    def one(seed, power, copied, steps):
        noise = copied * shared + np.sqrt(1 - copied**2) * rng.normal(size=(items, count))
        power = power * (1 + 0.02 * rng.normal())
        at = np.arange(0, max(steps, 1), 5)
        fall = 0.3 + 2 * np.exp(-at / 80) + 0.1 * rng.normal(size=len(at))
        return SeedResult(
            seed=seed,
            logits=2.6 * (power * 1.6 * truth * ease + noise * 0.8),
            steps=steps,
            seconds=steps / 40 * (1 + 0.1 * rng.random()),
            validation=Validation(
                2.6 * (1.6 * power * np.eye(count)[held] + 1.1 * rng.normal(size=(60, count))), held
            ),
            losses=Losses(at, {"ce": fall, "total": 1.1 * fall}),
        )

    def arm(name, power, copied, count, cost, steps):
        own = tuple(one(seed, power, copied, steps) for seed in range(count))
        return ArmResult(name, own, cost, unlabelled=unlabelled if name == "distilled" else 0)

    master = None
    if teacher is not None:
        master = arm("teacher", teacher, 0.7, teacher_seeds, BIG, 1500)
    arms = tuple(
        arm(name, power, 0.6 if name == "distilled" else 0.2, seeds, SMALL, 300)
        for name, power in skill.items()
    )
    mood = rng.gamma(30, 1 / 30, 60)
    timing = Timing(
        {
            "teacher": 4.1e-3 * mood * rng.gamma(900, 1 / 900, 60),
            "distilled": 3.7e-4 * mood * rng.gamma(900, 1 / 900, 60),
            "control": 3.7e-4 * mood * rng.gamma(900, 1 / 900, 60),
        },
        batch=1,
        threads=1,
        device="cpu",
    )
    return RunResult(
        **{
            "name": "digits",
            "labels": labels,
            "classes": classes,
            "arms": arms,
            "teacher": master,
            "recipe": "seed: {count: 8}\nstudent: {model: {zoo: cnn-small}}\n",
            "timing": timing,
            "versions": {"preceptor": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
            "hardware": {"machine": "x86_64, 2 cores", "memory": "8 GB"},
            "phases": {"teacher": 41.0, "students": 96.0, "evaluation": 3.5},
            **more,
        }
    )


@pytest.fixture(scope="session")
def fake():
    """The generator of fake results."""
    return fake_result


@pytest.fixture(scope="session")
def result():
    """A run of four arms, small enough to judge in a moment."""
    return fake_result(seeds=4, items=120)


@pytest.fixture(scope="session")
def report(result):
    """Its report."""
    return build_report(result)
