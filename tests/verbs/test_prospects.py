"""What `check --deep` says of a teacher of classes before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from preceptor.errors import TeacherFailure
from preceptor.models.load import load, save_model
from preceptor.recipe.load import recipe_of
from preceptor.verbs.check import check
from tests.verbs.small import DEEP, FEW, ran, small

HALF = {"source": "toy", "validation": 0.5}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that knows the data."""
    folder = tmp_path_factory.mktemp("prospects")
    teacher = {**DEEP, "train": {**DEEP["train"], "steps": 60}}
    ran(small(teacher=teacher, control={"arms": []}), folder)
    return folder / "teachers/teacher/student"


def reordered(place: Path, folder: Path, order: list[int]) -> Path:
    """The same teacher with the rows of its last layer in another order."""
    model = load(place)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.copy_(last.weight[order].clone())
        last.bias.copy_(last.bias[order].clone())
    save_model(model, folder)
    return folder


def deep(teacher: Path, **sections: Any) -> str:
    said = {"model": DEEP["model"], "load": str(teacher)}
    return check(recipe_of(small(teacher=said, **sections)), deep=True)


def test_a_teacher_that_leads_is_said_to_and_nothing_warns(taught: Path) -> None:
    words = deep(taught, data={"source": "toy"})
    assert "the student as it begins on" in words
    assert "a lead of +" in words
    assert "renamed" not in words


def test_two_classes_that_changed_places_are_named(taught: Path, tmp_path: Path) -> None:
    count = load(taught).spec["classes"]
    order = [1, 0, *range(2, count)]
    words = deep(reordered(taught, tmp_path / "other", order), data=HALF)
    assert "! The teacher is right on" in words
    assert "with its classes renamed" in words


def test_classes_in_another_order_are_said_so_where_a_run_would_refuse_the_teacher(
    taught: Path, tmp_path: Path
) -> None:
    count = load(taught).spec["classes"]
    order = [*range(1, count), 0]
    place = reordered(taught, tmp_path / "other", order)
    said = {"model": DEEP["model"], "load": str(place)}
    with pytest.raises(TeacherFailure, match="with its classes renamed"):
        ran(small(teacher=said), tmp_path / "run")


def test_classes_that_the_student_never_sees_are_named(taught: Path) -> None:
    first = load(taught).spec["classes"]
    assert first > 2
    words = deep(taught, data={"source": "toy", "omit": [0]})
    assert "! " in words
    assert "the student sees no example" in words


def test_a_run_says_what_it_found_of_its_teacher(tmp_path: Path) -> None:
    report = ran(small(data={**FEW, "omit": [0]}), tmp_path)
    kinds = {each.kind for each in report.findings}
    assert {"cover", "lead"} <= kinds
    assert report.begun == ""
