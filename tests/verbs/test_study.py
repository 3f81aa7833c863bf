import json
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from preceptor.cli import app
from preceptor.errors import RecipeError
from preceptor.evaluate.study.cells import Answered
from preceptor.evaluate.study.study import Study
from preceptor.recipe.load import recipe_of, study_of
from preceptor.recipe.study import StudyRecipe
from preceptor.recipe.study_cells import StudyCell, study_plan
from preceptor.verbs.distill import distill
from preceptor.verbs.study import study
from preceptor.verbs.study_training import cell_file, read_cell, run_study_cell
from preceptor.verbs.study_workers import run_cells

ADAM = {"name": "adamw", "lr": 1e-2}
RECIPE: dict[str, Any] = {
    "seed": {"count": 2},
    "threads": 1,
    "data": {"source": "comparison", "limit": 60, "test": 0.1},
    "teacher": {
        "model": {"zoo": "mlp", "arguments": {"widths": [16]}},
        "train": {"steps": 30, "batch": 16, "optimizer": ADAM},
    },
    "student": {"model": {"zoo": "mlp", "arguments": {"widths": [4]}}},
    "stages": [
        {
            "objective": [{"ce": {}}, {"kd": {"temperature": 2}}],
            "plan": {"steps": 8, "batch": 16, "optimizer": ADAM},
        }
    ],
}


def said(**more: Any) -> StudyRecipe:
    return study_of({"name": "tiny", "recipe": RECIPE, **more})


def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    return {f.stem: json.loads(f.read_text()) for f in sorted(folder.glob("cells/*.json"))}


GRID = {
    "tasks": {
        "comparison": {},
        "nan": {"stages.0.plan.optimizer": {"name": "sgd", "lr": 1e30}},
        "failing": {"student.model.head": "no-such-module"},
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "tiny"
    signals = {"alter": {"noised": {"noise": 4}}, "tasks": ["comparison"]}
    study(said(grid=GRID, signals=signals), out=folder, workers=1)
    return folder


def test_a_study_leaves_a_page_and_json_and_a_file_a_cell(finished: Path) -> None:
    found = Study.from_json((finished / "study.json").read_text())
    assert found.cells == len(outcomes(finished)) == 2 + 6 + 6 + 2
    assert "Did distillation help?" in (finished / "study.html").read_text()
    assert {row.signal for row in found.signals} == {"true", "noised"}
    assert found.seconds > 0


def test_cells_that_fail_or_collapse_are_named_and_lose_no_other(finished: Path) -> None:
    found = Study.from_json((finished / "study.json").read_text())
    states = {trouble.cell: trouble.state for trouble in found.troubles}
    assert sum(state == "failed" for state in states.values()) == 4
    assert all("failing" in name for name, state in states.items() if state == "failed")
    assert sum(state == "collapsed" for state in states.values()) == 4
    assert {place.task for place in found.places} == {"comparison", "nan"}
    nan = next(place for place in found.places if place.task == "nan")
    assert nan.measures["gain"] == 0.0


def test_a_finished_study_is_judged_again_and_trains_only_what_failed(finished: Path) -> None:
    times = {f: f.stat().st_mtime_ns for f in finished.glob("cells/*.json")}
    first = Study.from_json((finished / "study.json").read_text())
    signals = {"alter": {"noised": {"noise": 4}}, "tasks": ["comparison"]}
    again = study(said(grid=GRID, signals=signals), out=finished, workers=1).study
    assert again.students == first.students
    written = {f for f, time in times.items() if f.stat().st_mtime_ns != time}
    assert {json.loads(f.read_text())["state"] for f in written} == {"failed"}


def test_data_that_cannot_be_read_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    tasks = {"good": {}, "bad": {"data.class_names": ["yes", "maybe"]}}
    with pytest.raises(RecipeError, match="at teacher the teacher of bad"):
        study(said(grid={"tasks": tasks}), out=tmp_path / "bad", workers=1)
    assert not outcomes(tmp_path / "bad")


def test_a_cell_trained_in_memory_is_the_cell_that_a_run_trains(tmp_path: Path) -> None:
    """The teacher, the control and the student answer as `preceptor distill` has them."""
    study(study_of({"recipe": RECIPE | {"seed": {"count": 1}}}), out=tmp_path / "study", workers=1)
    cells = {name.split("-")[0]: cell for name, cell in outcomes(tmp_path / "study").items()}
    teacher = next((tmp_path / "study" / "teachers").glob("*/teachers/*/student"))
    model = RECIPE["teacher"]["model"]
    alone = RECIPE | {
        "seed": {"count": 1},
        "teacher": {"model": model, "load": str(teacher)},
        "control": {"arms": ["control"]},
    }
    run = distill(recipe_of(alone), out=tmp_path / "run")
    for arm, role in (("distilled", "taught"), ("control", "control"), ("teacher", "teacher")):
        measured: Any = run.report.arm(arm).measures["accuracy"]
        pairs = zip(cells[role]["answers"], cells[role]["labels"], strict=True)
        right = [answer == label for answer, label in pairs]
        assert sum(right) / len(right) == pytest.approx(measured.estimate)


def test_a_long_cell_goes_through_checkpoints_to_the_same_answers(tmp_path: Path) -> None:
    seed = {"seed": {"count": 1}}
    short = study_plan(study_of({"recipe": RECIPE | seed}))
    long = study_plan(study_of({"recipe": RECIPE | seed | {"checkpoint": {"every": 3}}}))
    assert [c.name for c in short.cells] == [c.name for c in long.cells]
    first = [run_study_cell(cell, tmp_path / "short").answers for cell in short.cells]
    assert [run_study_cell(cell, tmp_path / "long").answers for cell in long.cells] == first
    assert list(tmp_path.glob("long/longer/*/arms/*/seed-0/stage-0/checkpoints/step-00000008"))
    assert not (tmp_path / "short" / "longer").exists()


def test_a_killed_worker_loses_one_cell_which_is_named_and_the_others_are_as_ever(
    tmp_path: Path,
) -> None:
    tasks = {"a": {}, "b": {"teacher.train.steps": 100_000}}
    recipe = study_of({"name": "tiny", "recipe": RECIPE, "grid": {"tasks": tasks}})
    teachers = [cell for cell in study_plan(recipe).cells if cell.role == "teacher"]
    slow = next(cell for cell in teachers if cell.words.endswith("b"))
    quick = [cell for cell in teachers if cell.words.endswith("a")]
    heard: dict[str, Answered] = {}

    def told(cell: StudyCell, found: Answered) -> None:
        heard[cell.name] = found
        if len(heard) == 1:
            for child in active_children():  # One is idle, one in the middle of its long cell.
                child.kill()

    run_cells(recipe, [[slow, *quick]], tmp_path / "killed", 2, told)
    assert set(heard) == {slow.name, *(cell.name for cell in quick)}
    assert heard[slow.name].state == "failed"
    assert "ended (exit code -9)" in heard[slow.name].why
    kept = read_cell(cell_file(tmp_path / "killed", slow.name))
    assert kept is not None
    assert kept.state == "failed"
    first = heard[quick[0].name]
    alone = run_study_cell(quick[0], tmp_path / "alone")
    assert replace(first, seconds=0.0) == replace(alone, seconds=0.0)


def test_a_study_in_which_every_cell_failed_leaves_its_page_and_ends_in_1(tmp_path: Path) -> None:
    recipe = {**RECIPE, "student": {"model": {**RECIPE["student"]["model"], "head": "nowhere"}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"name": "none", "recipe": recipe}))
    command = [
        "study",
        str(tmp_path / "study.yaml"),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    assert CliRunner().invoke(app, command).exit_code == 1
    found = Study.from_json((tmp_path / "out" / "study.json").read_text())
    assert found.places == ()
    assert {trouble.state for trouble in found.troubles} == {"failed"}
