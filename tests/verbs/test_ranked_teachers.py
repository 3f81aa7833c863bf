"""`teacher: {rank: ...}`: the ranking before a run, or each stage, and what is told of it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preceptor.errors import DataError, RecipeError, ServerFailure
from preceptor.evaluate.report import Report
from preceptor.recipe.data import TextData
from preceptor.recipe.load import recipe_of
from preceptor.recipe.teachers import ServedTeacher
from preceptor.recipe.texts import parts_of
from preceptor.verbs.beforehand import Decided, decided
from preceptor.verbs.check import check, require_fit
from preceptor.verbs.distill import distill
from preceptor.verbs.folders import open_run
from preceptor.verbs.progress import Progress
from preceptor.verbs.tried_candidates import tried_candidates
from tests.servers.serving import Reply, Request, serving
from tests.verbs.child import finished, killed
from tests.verbs.small import MLP, contents, ran, small, stage, written
from tests.verbs.text import ADAM, llama, sums, written_recipe

TRAIN = {"steps": 8, "batch": 16, "optimizer": ADAM}
STAGE: dict[str, Any] = {
    "objective": [{"kd": {"temperature": 1}}],
    "plan": {"steps": 3, "batch": 8},
}


def ranked(folder: Path, **rank: Any) -> dict[str, Any]:
    """A recipe of sums whose teacher is one of two that a run trains."""
    said = {
        "of": {
            "large": {"model": llama(16), "train": TRAIN, "temperatures": [0.5, 1.0], "most": 4},
            "small": {"model": llama(8), "train": TRAIN, "most": 4},
        },
        "features": {"dimension": 8},
        "prompts": 20,
        "responses": 2,
    }
    recipe = written_recipe(sums(folder / "sums.jsonl"), teacher={"rank": said | rank})
    del recipe["data"]["verify"]
    return recipe | {"stages": [STAGE]}


def found_in(data: dict[str, Any], folder: Path) -> Decided:
    """What is decided before a run, and nothing after it."""
    recipe = recipe_of(data)
    require_fit(recipe)
    open_run(recipe, folder)
    with Progress(recipe, folder, show=False) as progress:
        return decided(recipe, folder, progress)


def test_the_ranking_comes_first_its_best_teaches_and_the_report_tells(tmp_path: Path) -> None:
    recipe = recipe_of(ranked(tmp_path, warm_up=TRAIN))
    told = check(recipe)
    assert "the best of large@0.5, large@1, small by grace" in told
    report = distill(recipe, out=tmp_path / "run").report
    (ranking,) = report.rankings
    assert ranking.moment == "before the run"
    assert {each.name for each in ranking.candidates} == {"large@0.5", "large@1", "small"}
    assert ranking.chosen == (ranking.candidates[0].name,)
    assert "rank:" in report.recipe
    assert report.phases["ranking"].estimate > 0
    # What the ranking trained is not trained again, and the run's teacher is the chosen one.
    assert {path.name for path in (tmp_path / "run/ranking/teachers").iterdir()} == {
        "large",
        "small",
    }
    assert not (tmp_path / "run/teachers").exists()
    named = ranking.chosen[0].partition("@")[0]
    weights = tmp_path / f"run/ranking/teachers/{named}/student"
    whole = ranked(tmp_path) | {
        "teacher": {"model": llama(16 if named == "large" else 8), "load": str(weights)}
    }
    ran(whole, tmp_path / "named")
    one, other = contents(tmp_path / "run/arms"), contents(tmp_path / "named/arms")
    assert {k: v for k, v in one.items() if "metrics" not in k} == {
        k: v for k, v in other.items() if "metrics" not in k
    }
    page = (tmp_path / "run/report.html").read_text()
    assert "Which teacher" in page
    assert all(f"<li>! {caution[:20]}" in page for caution in ranking.cautions)
    # Asked again, it is all there.
    before = (tmp_path / "run/ranking/before-stage-1.json").stat().st_mtime_ns
    assert distill(recipe, out=tmp_path / "run").report == report
    assert (tmp_path / "run/ranking/before-stage-1.json").stat().st_mtime_ns == before
    assert Report.from_json(report.to_json()) == report


def test_check_says_that_a_dimension_is_too_large_for_what_will_be_written(tmp_path: Path) -> None:
    said = ranked(tmp_path, features={"dimension": 4000})
    said["teacher"]["rank"]["of"]["small"]["temperatures"] = [0.0]
    shown = check(recipe_of(said))
    # 20 prompts, two responses to each; at temperature 0 both are one.
    assert "  ! large@0.5, large@1: 4000 dimensions for 36 effective rows (20 prompts, 40" in shown
    assert "  ! small: 4000 dimensions for 18 effective rows (20 prompts, 40 responses" in shown
    # Where more are asked than there are: the training rows' prompts, each once.
    data = recipe_of(said).data
    assert isinstance(data, TextData)
    rows = len({row.prompt for row in parts_of(data).train})
    shown = check(recipe_of(ranked(tmp_path, features={"dimension": 4000}, prompts=512)))
    assert f"effective rows ({rows} prompts, {2 * rows} responses" in shown
    assert "dimensions for" not in check(recipe_of(ranked(tmp_path)))
    with pytest.raises(DataError, match=f"first looks after 400 prompts, of {rows} in all"):
        check(recipe_of(ranked(tmp_path, race={"first": 400}, prompts=512)))
    with pytest.raises(RecipeError, match=r"teacher\.rank\.race\.first: 20: all 20 prompts"):
        check(recipe_of(ranked(tmp_path, race={"first": 20})))


def test_before_each_stage_the_student_is_asked_as_it_is_by_then(tmp_path: Path) -> None:
    said = ranked(tmp_path, every="stage", ensemble=2) | {"stages": [STAGE, STAGE]}
    found = found_in(said, tmp_path / "run")
    first, second = found.rankings
    assert (first.moment, second.moment) == ("before the run", "before stage 2")
    scores = [{each.name: each.score for each in one.candidates} for one in (first, second)]
    assert scores[0].keys() == scores[1].keys()
    assert all(scores[0][name] != scores[1][name] for name in scores[0])
    # One of each teacher, though one of them is a candidate twice.
    for one in (first, second):
        assert {name.partition("@")[0] for name in one.chosen} == {"large", "small"}
    assert any("rank correlation with the order before" in each for each in second.sentences)
    # Who taught before goes on, but for one that is clearly behind whoever takes its place.
    ties = {each.name: each.tied for each in second.candidates}
    new, old = set(second.chosen) - set(first.chosen), set(first.chosen) - set(second.chosen)
    assert all(ties[one].count(other) == 0 for one in new for other in old)
    assert f"Together: {', '.join(second.chosen)}." in second.sentences
    assert second.sentences[-1].rstrip(".") in second.headline
    asked = tmp_path / "run/ranking/student-before/stage-2/model.safetensors"
    assert asked.exists()


def test_image_teachers_that_guess_are_passed_over(tmp_path: Path) -> None:
    train = {"batch": 16, "optimizer": {"name": "adamw", "lr": 0.01}}
    of = {
        "early": {"model": MLP, "train": {"steps": 1, **train}},
        "late": {"model": MLP, "train": {"steps": 60, **train}},
    }
    recipe = small(teacher={"rank": {"of": of, "features": {"dimension": 16}}}, stages=[stage()])
    (ranking,) = found_in(recipe, tmp_path / "run").rankings
    assert ranking.candidates[0].name == "early"
    assert ranking.chosen == ("late",)
    assert "early is passed over: its answers are nearly a guess." in ranking.sentences
    without = "Without those that nearly guess: late is the only one admitted."
    assert without in ranking.sentences


def test_a_deep_check_makes_every_candidate_and_counts_them_against_the_limit(
    tmp_path: Path,
) -> None:
    small = ranked(tmp_path)["teacher"]["rank"]["of"]["small"]
    shown = check(recipe_of(ranked(tmp_path)), deep=True)
    assert shown.index("candidate large: ") < shown.index("candidate small: ")
    beyond = recipe_of(ranked(tmp_path, cost="parameters", limit=10.0))
    with pytest.raises(RecipeError, match=r"at most 10 parameters: the smallest, small, has \d+"):
        check(beyond, deep=True)
    with pytest.raises(RecipeError, match="the smallest, small, has"):
        distill(beyond, out=tmp_path / "run")
    assert not (tmp_path / "run/ranking/teachers").exists()
    broken = {**small, "model": {"causal": str(tmp_path / "nowhere")}}
    del broken["train"]
    with pytest.raises(DataError, match="nowhere"):
        check(recipe_of(ranked(tmp_path, of={"small": small, "broken": broken})), deep=True)


def test_the_best_within_a_limit_of_parameters_teaches(tmp_path: Path) -> None:
    said = ranked(tmp_path, cost="parameters", limit=3000.0)
    (ranking,) = found_in(said, tmp_path / "run").rankings
    assert ranking.chosen == ("small",)
    assert any(" Beyond it: large@" in sentence for sentence in ranking.sentences)
    assert "that cost at most 3000 parameters by grace" in check(recipe_of(said))
    few = ranked(tmp_path, cost={"large": 3.0, "small": 1.0}, limit=2.0, ensemble=2)
    fewer = "  ! 2 are to teach together, and 1 of them costs at most 2: small"
    assert fewer in check(recipe_of(few)).splitlines()
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        distill(recipe_of(ranked(tmp_path)), out=tmp_path / "run")


def test_a_server_that_wrote_well_for_its_price_teaches(tmp_path: Path) -> None:
    def respond(request: Request) -> Reply:
        text = str(request.payload["seed"] % 19)
        return Reply.json({"choices": [{"text": text, "finish_reason": "stop"}]})

    with serving(respond) as server:
        far = {"served": {"url": server.url, "model": "m"}, "api": "text", "most": 4}
        near = {"model": llama(8), "train": TRAIN, "most": 4}
        cost = {"far": 1.0, "near": 5.0}
        said = ranked(tmp_path, of={"far": far, "near": near}, cost=cost, limit=2.0)
        first, second = tried_candidates(recipe_of(said), tmp_path / "tried")
        assert first == "candidate far: its server answers"
        assert second.startswith("candidate near: ")
        found = found_in(said, tmp_path / "run")
    with pytest.raises(ServerFailure, match="cannot be reached"):
        tried_candidates(recipe_of(said), tmp_path / "again")
    assert found.rankings[0].chosen == ("far",)
    assert {each.name for each in found.rankings[0].candidates} == {"far", "near"}
    assert isinstance(found.recipe.teacher, ServedTeacher)
    assert found.recipe.teacher.served.url == server.url


def test_killed_while_it_ranks_a_run_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "cut"):
        here = tmp_path / name
        here.mkdir()
        monkeypatch.chdir(here)
        said = ranked(here)
        said["data"]["source"] = "sums.jsonl"
        said |= {"checkpoint": {"every": 2}, "control": {"arms": []}}
        command = ["distill", str(written(said, here / "recipe.yaml")), "--out", "run"]
        log = tmp_path / f"{name}.log"
        if name == "cut":
            hit = [killed(command, log, there, random.Random(0)) for there in _moments(here)]
            assert any(hit), hit
        code, shown = finished(command, log)
        assert code == 0, shown
    whole, cut = (contents(tmp_path / name / "run") for name in ("whole", "cut"))
    assert {k: v for k, v in whole.items() if "metrics" not in k} == {
        k: v for k, v in cut.items() if "metrics" not in k
    }
    one, other = (
        json.loads((tmp_path / name / "run/ranking/before-stage-1.json").read_text())["ranking"]
        for name in ("whole", "cut")
    )
    assert one == other


def _moments(here: Path) -> list[Callable[[], bool]]:
    def there(pattern: str) -> Callable[[], bool]:
        return lambda: next(here.glob(pattern), None) is not None

    return [
        there("run/ranking/features/small/manifest.json"),
        there("run/arms/distilled/seed-0/stage-0"),
    ]
