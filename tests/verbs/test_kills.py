"""Killed at any moment, nothing is lost: real processes, real kills, real damage."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from preceptor.recipe.text import to_yaml
from tests.verbs.child import finished, killed
from tests.verbs.small import CNN, DEEP, FEW, contents, small, stage, timeless, written

# All that a checkpoint holds: BatchNorm, momentum, a memory, an average, found weights, two stages.
RECIPE = small(
    seed={"count": 2},
    data={**FEW, "augment": {"crop": 1, "flip": False}},
    teacher=DEEP,
    student={"model": CNN},
    stages=[
        stage([{"fitnets": {}}], keep_auxiliary=False),
        stage([{"ce": {}}, {"kd": {}, "weight": "auto"}, {"crd": {"negatives": 8}}], ema=0.5),
    ],
    checkpoint={"every": 2},
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed, by the command itself."""
    here = tmp_path_factory.mktemp("whole")
    written(RECIPE, here / "recipe.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "preceptor", "distill", "recipe.yaml", "--out", "run"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "The report is run/report.html" in done.stdout
    return here / "run"


def command(folder: Path, recipe: Path) -> list[str]:
    return ["distill", str(recipe), "--out", str(folder)]


def same(folder: Path, whole: Path) -> None:
    """The same weights, answers and metrics bit for bit; the same report but for times."""
    assert contents(folder) == contents(whole)
    assert timeless(folder) == timeless(whole)


def test_killed_in_the_teacher_in_an_arm_and_between_arms_a_run_ends_the_same(
    whole: Path, tmp_path: Path
) -> None:
    recipe, run, log = written(RECIPE, tmp_path / "recipe.yaml"), tmp_path / "run", tmp_path / "log"
    delay = random.Random()

    def there(pattern: str, count: int = 1) -> Callable[[], bool]:
        return lambda: len(list(run.glob(pattern))) >= count

    moments = [
        there("recipe.yaml"),
        there("teachers/teacher/stage-0/checkpoints/step-*6"),
        there("teachers/teacher/student/model.safetensors"),
        there("teachers/teacher/done.json"),
        there("arms/distilled/seed-0/stage-0/checkpoints/step-*"),
        there("arms/distilled/seed-0/stage-1/checkpoints/step-*2"),
        there("arms/distilled/seed-0/student"),
        there("arms/distilled/seed-0/done.json"),
        there("arms/control/seed-0/stage-0/checkpoints/.tmp-*"),
        there("arms/distilled/seed-1/predictions.safetensors"),
        there("arms/control/seed-1/done.json"),
        there("metrics.jsonl"),
    ]
    hit = [killed(command(run, recipe), log, moment, delay) for moment in moments]
    assert sum(hit) >= len(moments) - 3, hit
    code, said = finished(command(run, recipe), log)
    assert code == 0, said
    same(run, whole)
    assert not [path for path in run.rglob(".*") if path.is_dir()]


def test_a_finished_run_says_so_and_is_not_trained_again(whole: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    recipe = written(RECIPE, tmp_path / "recipe.yaml")
    code, said = finished(command(whole, recipe), tmp_path / "log")
    assert code == 0, said
    assert "finished: nothing is trained again" in said.replace("\n", " ")
    assert "distilled" in said
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


@pytest.mark.parametrize("how", ["cut", "emptied"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    whole: Path, tmp_path: Path, how: str
) -> None:
    recipe, run, log = written(RECIPE, tmp_path / "recipe.yaml"), tmp_path / "run", tmp_path / "log"
    place = run / "teachers/teacher/stage-0/checkpoints"
    assert killed(
        command(run, recipe), log, lambda: len(list(place.glob("step-*"))) == 2, random.Random()
    )
    newest = sorted(place.glob("step-*"))[-1]
    file = newest / ("numbers.json" if how == "emptied" else "tensors.safetensors")
    file.write_bytes(b"" if how == "emptied" else file.read_bytes()[:-7])
    code, said = finished(command(run, recipe), log)
    assert code == 0, said
    assert f"{newest.name} is damaged" in said.replace("\n", " ")
    assert contents(run) == contents(whole)
    warnings = timeless(run)["warnings"]
    assert any(newest.name in warning and "teacher" in warning for warning in warnings), warnings


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_when_there_is_room(
    whole: Path, tmp_path: Path
) -> None:
    recipe, run, log = written(RECIPE, tmp_path / "recipe.yaml"), tmp_path / "run", tmp_path / "log"
    for limit in (500, 9_000, 30_000):
        code, said = finished(command(run, recipe), log, limit)
        assert code == 1, (limit, said)
        assert "could not be written" in said or "the disk answered" in said
        assert "Make room" in said
        assert "Traceback" not in said
    code, said = finished(command(run, recipe), log)
    assert code == 0, said
    same(run, whole)


def test_another_recipe_in_the_folder_is_refused_and_fresh_begins_anew(
    whole: Path, tmp_path: Path
) -> None:
    del whole
    other = tmp_path / "other.yaml"
    run, log = tmp_path / "run", tmp_path / "log"
    quick = small(control={"arms": []}, checkpoint={"every": 2})
    assert finished(command(run, written(quick, other)), log)[0] == 0
    other.write_text(to_yaml(small(control={"arms": []}, checkpoint={"every": 3})))
    code, said = finished(command(run, other), log)
    assert code == 2
    assert "holds a run of another recipe: " in said
    assert " was " in said
    assert finished([*command(run, other), "--fresh"], log)[0] == 0
