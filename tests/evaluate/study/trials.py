"""Made-up comparisons whose numbers are known."""

from collections.abc import Callable, Sequence

import numpy as np

from preceptor.evaluate.study.assembly import build_study
from preceptor.evaluate.study.cells import Answered, Compared
from preceptor.evaluate.study.study import Study

CLASSES = 4
STUDENTS = {"small": 100, "middle": 1000, "large": 10000}

Accuracy = Callable[[str, str, int], float]
"""Of a role ("taught", "control", "teacher"), a student and a seed."""


def flat(role: str, student: str, seed: int) -> float:
    """Nobody gains."""
    del student, seed
    return {"teacher": 0.9, "control": 0.6, "taught": 0.6}[role]


def model(
    labels: np.ndarray, accuracy: float, drawn: np.random.Generator, parameters: int = 100
) -> Answered:
    """Right on a share of the items at random, else on another class at random."""
    right = drawn.random(len(labels)) < accuracy
    other = (labels + drawn.integers(1, CLASSES, len(labels))) % CLASSES
    answers = np.where(right, labels, other)
    return told(answers, labels, accuracy, parameters)


def told(
    answers: Sequence[int] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    validation: float = 0.5,
    parameters: int = 100,
) -> Answered:
    first, second = (tuple(int(each) for each in side) for side in (answers, labels))
    return Answered("done", "", first, second, validation, parameters, 0.1)


def without(state: str, why: str = "it broke") -> Answered:
    return Answered(state, why, (), (), 0.0, 0, 0.0)  # pyright: ignore[reportArgumentType]


def grid(accuracy: Accuracy, tasks: int = 8, seeds: int = 3, items: int = 300) -> list[Compared]:
    """Every student taught by one teacher on every task, under every seed."""
    drawn = np.random.default_rng(0)
    found = []
    for task in range(tasks):
        labels = drawn.integers(0, CLASSES, items)
        teachers = [model(labels, accuracy("teacher", "", s), drawn) for s in range(seeds)]
        for student, size in STUDENTS.items():
            for seed in range(seeds):
                taught, control = (
                    model(labels, accuracy(role, student, seed), drawn, size)
                    for role in ("taught", "control")
                )
                found.append(
                    Compared(
                        (f"task {task}", student, "teacher", "kd"),
                        "true",
                        "",
                        seed,
                        taught,
                        control,
                        teachers[seed],
                        teachers[(seed + 1) % seeds] if seeds > 1 else None,
                    )
                )
    return found


def judged(trials: Sequence[Compared], options: Sequence[str] = ("",)) -> Study:
    return build_study(
        "made up",
        trials,
        options=options,
        troubles=(),
        cells=9,
        seconds=60.0,
        recipe="name: made up\n",
        versions={"preceptor": "0"},
        hardware={"cores": "2"},
    )
