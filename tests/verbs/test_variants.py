"""Several ways to teach one student in one run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from preceptor.errors import NeedsError
from preceptor.evaluate.report import Report, Value
from preceptor.recipe.load import recipe_of
from preceptor.verbs.check import check
from preceptor.verbs.distill import distill
from tests.verbs.small import KD, LIVE, MLP, ran, small, stage, written

LABELLED = {"source": "toy", "labelled": 30}
WAYS: dict[str, Any] = {
    "same": {"objective": KD},
    "labelled": {"stages": [{**stage(), "data": LABELLED}]},
    "two": {"stages": [stage(steps=1), stage(steps=3)]},
    "several": {"teacher": {"ensemble": {"members": [LIVE, LIVE]}}, "objective": KD},
    "again": {"teacher": {"born_again": {"generations": 2}}, "objective": KD},
    "mutual": {
        "teacher": {"peers": {"others": [MLP]}},
        "objective": [{"ce": {}}, {"dml": {}}],
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("run")
    return folder, ran(small(seed={"count": 2}, variants=WAYS), folder)


def answers(folder: Path, arm: str) -> torch.Tensor:
    return load_file(folder / "arms" / arm / "seed-0" / "predictions.safetensors")["0.test"]


def test_every_variant_is_an_arm_compared_with_the_one_control(run: tuple[Path, Report]) -> None:
    _, report = run
    names = [arm.name for arm in report.arms]
    assert names == ["teacher", "distilled", *WAYS, "control"]
    assert report.student == "distilled"
    for name in WAYS:
        assert report.arm(name).role == "student"
        assert report.difference(name, "control") is not None


def test_a_variant_that_changes_nothing_is_the_same_student(run: tuple[Path, Report]) -> None:
    folder, _ = run
    assert torch.equal(answers(folder, "same"), answers(folder, "distilled"))
    assert not torch.equal(answers(folder, "two"), answers(folder, "distilled"))


def test_a_variant_alone_trains_as_it_does_beside_others(
    run: tuple[Path, Report], tmp_path: Path
) -> None:
    folder, _ = run
    ran(small(variants={"again": WAYS["again"]}), tmp_path / "run")
    assert torch.equal(answers(folder, "again"), answers(tmp_path / "run", "again"))


def test_each_arm_counts_the_unlabelled_images_that_it_saw(run: tuple[Path, Report]) -> None:
    _, report = run
    assert report.arm("labelled").unlabelled == report.arm("control").unlabelled == 0
    assert report.arm("same").unlabelled == report.arm("distilled").unlabelled > 0


def test_all_arms_take_as_many_steps(run: tuple[Path, Report]) -> None:
    _, report = run
    for name in ("distilled", *WAYS, "control"):
        steps = report.arm(name).measures["steps"]
        assert isinstance(steps, Value)
        assert steps.estimate == 4


def test_teachers_of_variants_have_folders_of_their_own(run: tuple[Path, Report]) -> None:
    folder, _ = run
    names = {path.name for path in (folder / "teachers").iterdir()}
    assert names == {"teacher", "teacher-several-0", "teacher-several-1"}


def test_a_run_with_variants_writes_its_files_and_is_not_run_again(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    written(small(variants={"several": WAYS["several"]}), recipe)
    first = distill(recipe, out=tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    for arm in ("teacher-several-1", "several", "distilled", "control"):
        assert f'"arm": "{arm}"' in lines
    assert distill(recipe, out=tmp_path / "run").report == first.report


def test_check_says_what_each_variant_reads_and_refuses_what_its_teacher_cannot_give() -> None:
    words = check(recipe_of(small(variants=WAYS)))
    assert words.count("again:") == 1
    assert "probabilities of every class at temperature 1 from the teacher (peers)" in words
    silent = {"teacher": {"nobody": {}}, "objective": KD}
    with pytest.raises(NeedsError) as caught:
        check(recipe_of(small(variants={"silent": silent})))
    assert "variants.silent.stages.0.objective: kd with the teacher nobody" in str(caught.value)
