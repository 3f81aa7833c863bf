"""A finished run judged again from what lies in its folder."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from preceptor.errors import RecipeError
from preceptor.evaluate.report import Report, Value
from preceptor.evaluate.stored import load_results
from preceptor.models import load
from preceptor.recipe.load import recipe_of
from preceptor.verbs.distill import distill
from preceptor.verbs.evaluate import evaluate
from tests.verbs.small import small
from tests.verbs.text import sums, written_recipe


def no_model(*_: Any, **__: Any) -> Any:
    raise AssertionError("a model was made")


@pytest.mark.parametrize("kind", ["images", "text"])
def test_a_run_is_judged_again_without_a_model(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = small() if kind == "images" else written_recipe(sums(tmp_path / "sums.jsonl"))
    run = distill(recipe_of(said), out=tmp_path / "run")
    page, pictures = (run.folder / each for each in ("report.html", "pictures.json"))
    written = page.read_text(), pictures.read_text()
    file = run.folder / "report.json"
    older = json.loads(file.read_text()) | {"differences": [], "items": 1}
    file.write_text(json.dumps(older))
    page.unlink()
    monkeypatch.setattr(load, "load_model", no_model)
    assert evaluate(run.folder) == run.report
    assert Report.from_json(file.read_text()) == run.report
    assert (page.read_text(), pictures.read_text()) == written
    assert _read_meanwhile(run.folder) == set()


def _read_meanwhile(run: Path) -> set[str]:
    """Which libraries that are slow to read a process reads to judge a run again."""
    slow = {"torch", "scipy.stats", "matplotlib", "pydantic"}
    code = (
        "import sys, pathlib; from preceptor.verbs.evaluate import evaluate;"
        f"evaluate(pathlib.Path(sys.argv[1])); print(*({slow} & set(sys.modules)))"
    )
    told = [sys.executable, "-c", code, str(run)]
    return set(subprocess.run(told, check=True, capture_output=True, text=True).stdout.split())


def test_answers_on_training_examples_and_final_answers_reach_the_report(tmp_path: Path) -> None:
    of_text = distill(recipe_of(written_recipe(sums(tmp_path / "sums.jsonl"))), out=tmp_path / "a")
    of_images = distill(recipe_of(small()), out=tmp_path / "b")
    written = ("agreement", "edit_similarity", "length_drift", "retention", "train_token_agreement")
    seen = ("acceptance", "rbo", "train_agreement", "train_kappa", "copied_errors")
    for run, names in ((of_text, written), (of_images, seen)):
        measures = run.report.arm("distilled").measures
        assert set(names) <= set(measures)
        for name in names[:2]:
            assert isinstance(measures[name], Value), name


def test_rows_of_one_group_are_drawn_as_one_and_tags_are_shown_apart(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    named = [{**row, "group": k // 40, "tag": f"kind {k % 2}"} for k, row in enumerate(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in named))
    report = distill(recipe_of(written_recipe(file)), out=tmp_path / "run").report
    assert [each.name for each in report.slices["tag"]] == ["kind 0", "kind 1"]
    stored = load_results(tmp_path / "run")
    assert stored is not None
    assert set(stored.result.clusters) <= {"0", "1", "2"}
    assert len(stored.result.clusters) == report.items


def test_what_comes_from_elsewhere_stays_in_the_report(tmp_path: Path) -> None:
    run = distill(recipe_of(small()), out=tmp_path / "run")
    told = replace(run.report, recipe="as it was written")
    (run.folder / "report.json").write_text(told.to_json())
    assert evaluate(run.folder) == told


def test_a_run_that_is_refused_keeps_its_report_and_one_that_is_not_is_measured_again(
    tmp_path: Path,
) -> None:
    asked = small(evaluate=["accuracy", "independent"])
    run = distill(recipe_of(asked), out=tmp_path / "run")
    again = evaluate(run.folder, again=True)
    assert again.differences == run.report.differences
    assert again.phases == run.report.phases
    file, recipe = run.folder / "report.json", run.folder / "recipe.yaml"
    before, said = file.read_text(), recipe.read_text()
    recipe.write_text(said + "# changed by hand\n")
    with pytest.raises(RecipeError):
        evaluate(run.folder, again=True)
    assert file.read_text() == before
    assert not (run.folder / "report.json.before").exists()


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no finished run"):
        evaluate(tmp_path)
    with pytest.raises(RecipeError, match="no such folder") as refused:
        evaluate(tmp_path / "nothing-here")
    assert "recipe.yaml" not in str(refused.value)
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(RecipeError, match=r"preceptor distill .*recipe\.yaml"):
        evaluate(tmp_path)
