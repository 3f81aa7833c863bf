"""Rankings of texts, of teachers that write, of temperatures and of image teachers, as one runs
them: what comes out, what is refused before, and what a kill leaves."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preceptor.errors import DataError, NeedsError, PreceptorError, RecipeError
from preceptor.recipe.load import load_ranking, ranking_of
from preceptor.selection.features import Features, joined
from preceptor.selection.grace import Grace
from preceptor.selection.leverage import LeverageRatio
from preceptor.verbs.check_ranking import check_ranking
from preceptor.verbs.rank import rank
from preceptor.verbs.ranking_folders import OWN, open_ranking
from preceptor.verbs.standing import standing
from tests.verbs.child import finished, killed
from tests.verbs.small import written
from tests.verbs.text import ADAM, llama, sums

TRAIN = {"steps": 8, "batch": 16, "optimizer": ADAM}


def answers(file: Path, prompts: int = 40) -> Path:
    """What three teachers say of sums: the truth twice over, a letter more, and noise."""
    draw = random.Random(0)
    lines: list[dict[str, str]] = []
    for number in range(2 * prompts):
        a, b = number % prompts % 10, number % prompts // 10
        noise = "".join(draw.choice("0123456789+=") for _ in range(4))
        lines.append({"question": f"{a}+{b}=", "good": f"{a + b}", "wild": noise, "same": "0"})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def of_texts(folder: Path, **sections: Any) -> dict[str, Any]:
    """A ranking of such texts for a student trained on sums for a moment."""
    data = {
        "kind": "text",
        "source": str(sums(folder / "sums.jsonl")),
        "max_length": 24,
        "tokenizer": {"characters": True},
        "plain": True,
    }
    columns = {name: name for name in ("good", "wild", "same")}
    texts = {
        "source": str(answers(folder / "answers.jsonl")),
        "prompt": "question",
        "responses": columns,
    }
    whole: dict[str, Any] = {
        "data": data,
        "student": {"model": llama(8), "train": TRAIN},
        "candidates": {"texts": [texts]},
        "features": {"dimension": 16},
        "threads": 1,
    }
    return {**whole, **sections}


def told(folder: Path) -> Any:
    """A ranking's JSON."""
    return json.loads((folder / "ranking.json").read_text())


def test_texts_are_ranked_told_and_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = of_texts(tmp_path, choose={"ensemble": 2})
    folder = tmp_path / "run"
    found = rank(ranking_of(said), out=folder, show=True)
    assert set(found.ranking.names) == {"good", "wild", "same"}
    assert found.ranking.best.name == "same"  # Whatever the prompt says: see the caution below.
    assert found.chosen.ensemble == found.ranking.names[:2]
    shown = capsys.readouterr().out
    assert "of grace, lower is better" in shown
    # Its text answers every prompt alike; each of the others repeats some of its answers.
    assert "! same: 100 % of its responses have the text of an answer to another" in shown
    assert told(folder)["ranking"]["candidates"][0]["name"] == found.ranking.best.name
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    again = rank(ranking_of(said), out=folder)
    assert again.ranking == found.ranking
    assert (found.taken, again.taken) == (3 * 40, 0)
    assert "Gradients were taken of 120 prompts" in shown
    assert standing(again).endswith("All gradients were there: no pass over the student.")
    # Another score, fewer prompts, a race: all from the features that are there.
    other = {**said, "score": "g_norm", "prompts": 20, "race": {"first": 12}}
    less = rank(ranking_of(other), out=folder)
    assert (less.ranking.score, less.ranking.prompts, less.looks) == ("g_norm", 20, (12,))
    assert any("race" in sentence or "dropped" in sentence for sentence in less.raced)
    # Other folds, another smoothing, narrower sketches: the scores of what is on the disk.
    held = {
        name: joined([Features.load(path) for path in sorted(folder.glob(f"features/{name}/*.s*"))])
        for name in found.ranking.names
    }
    reading = {"grace": {"folds": 4, "smoothing": 0.02, "seed": 3}, "narrow": 8}
    read = rank(ranking_of(said | reading), out=folder)
    own = Grace(folds=4, smoothing=0.02, seed=3)
    for each in read.ranking.candidates:
        assert each.score.estimate == own.value(held[each.name].narrowed(8))
        ratio = LeverageRatio(own).value(held[each.name].narrowed(8))
        assert each.beside["leverage_ratio"] == ratio
    assert (less.taken, read.taken) == (0, 0)
    # Together, but of those within the limit alone.
    cost = {"same": 5.0, "good": 1.0, "wild": 5.0}
    cheap = rank(
        ranking_of(said | {"choose": {"cost": cost, "limit": 2.0, "ensemble": 2}}), out=folder
    )
    assert cheap.chosen.ensemble == ("good",)
    fewer = "2 were to teach together, and 1 teaches (beyond the limit: same, wild)."
    assert fewer in cheap.cautions
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        rank(ranking_of({**said, "seed": 1}), out=folder)
    # Another candidate beside one that is there: its gradients alone are taken, others stay.
    (texts,) = said["candidates"]["texts"]
    more = {**texts, "responses": {"good": "good", "more": "wild"}}
    other = {**said, "candidates": {"texts": [more]}, "choose": {}, "checkpoint": {"every": 3}}
    assert rank(ranking_of(other), out=folder).taken == 40
    assert rank(ranking_of(said), out=folder).taken == 0
    turned = {"texts": [{**more, "responses": {"good": "wild", "more": "good"}}]}
    with pytest.raises(RecipeError, match=r"responses.good was good, is wild"):
        rank(ranking_of({**other, "candidates": turned}), out=folder)
    with Path(texts["source"]).open("a") as file:
        file.write(json.dumps({"question": "9+9=", "good": "18", "wild": "1", "same": "0"}))
    with pytest.raises(RecipeError, match=r"answers.jsonl has changed since .*--fresh"):
        rank(ranking_of(said), out=folder)


def test_fresh_removes_what_a_ranking_made_and_no_notes(tmp_path: Path) -> None:
    said, folder = of_texts(tmp_path), tmp_path / "run"
    rank(ranking_of({**said, "prompts": 10, "students": {"other": said["student"]}}), out=folder)
    assert {path.name for path in folder.iterdir()} <= {"recipe.yaml", *OWN}
    (folder / "notes.txt").write_text("mine")
    open_ranking(ranking_of({**said, "seed": 1}), folder, fresh=True)
    assert {path.name for path in folder.iterdir()} == {"recipe.yaml", "notes.txt"}
    assert "seed: 1" in (folder / "recipe.yaml").read_text()


def test_check_says_of_the_dimension_what_the_ranking_says_later(tmp_path: Path) -> None:
    said = of_texts(tmp_path, features={"dimension": 19})
    file = Path(said["candidates"]["texts"][0]["source"])
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:40]))
    found = rank(ranking_of(said), out=tmp_path / "run")
    sentence = (
        "19 dimensions for 36 effective rows (40 prompts, 40 responses, similarity within a prompt "
        "0.00) are near the singular regime, where the smoothing decides. Give 43 prompts, or "
        "narrow the sketches to 18 numbers (narrow)."
    )
    assert {f"{name}: {sentence}" for name in found.ranking.names} < set(found.cautions)
    assert f"! good, wild, same: {sentence}" in check_ranking(ranking_of(said)).splitlines()
    for less in ({"features": {"dimension": 18}}, {"narrow": 18}):
        assert "dimensions for" not in check_ranking(ranking_of(said | less))


@pytest.mark.parametrize("name", ["arithmetic-temperatures", "digits-teachers"])
def test_presets_follow_the_advice_on_dimensions(name: str) -> None:
    assert "dimensions for" not in check_ranking(name)


def test_answers_that_are_skipped_are_told_and_their_prompts_left_out_for_all(
    tmp_path: Path,
) -> None:
    said = of_texts(tmp_path)
    texts = said["candidates"]["texts"][0]
    file = Path(texts["source"])
    lines = [json.loads(line) for line in file.read_text().splitlines()[:40]]
    lines[2]["wild"] = ""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"1 broken row in .*answers\.jsonl"):
        rank(ranking_of(said), out=tmp_path / "run")
    texts["broken"] = "skip"
    found = rank(ranking_of(said), out=tmp_path / "run")
    assert found.ranking.prompts == 39
    shown = " ".join(standing(found).split())
    assert "! wild has 1 broken answer, skipped; the first: answers.jsonl:3" in shown
    assert "! 1 of 40 prompts is left out for all, because an answer was skipped." in shown


@pytest.mark.parametrize(("kind", "projection"), [("exact", "counts"), ("head", "signs")])
def test_other_kinds_of_features_are_what_the_recipe_says(
    kind: str, projection: str, tmp_path: Path
) -> None:
    said = {"kind": kind, "dimension": 16, "projection": projection}
    found = rank(ranking_of(of_texts(tmp_path, features=said)), out=tmp_path / "run")
    shard = next((found.folder / "features" / "good").glob("*.safetensors"))
    features = Features.load(shard)
    assert (features.probe.kind, features.sketches.shape) == (kind, (80, 16))
    assert features.probe.details.get("projection", "signs") == projection
    assert np.array_equal(np.unique(features.prompts), np.arange(40))


def test_of_a_student_with_adapters_the_adapters_gradients_are_asked(tmp_path: Path) -> None:
    said = of_texts(tmp_path, student={"model": {**llama(8), "lora": {"rank": 2}}})
    found = rank(ranking_of(said), out=tmp_path / "run")
    shard = next((found.folder / "features" / "good").glob("*.safetensors"))
    # Of the query and the value map, 8 by 8 each: two numbers a row, and two a column.
    assert Features.load(shard).probe.parameters == 2 * 2 * (8 + 8)


def test_a_teacher_writes_at_each_temperature_and_cold_text_repeats_itself(tmp_path: Path) -> None:
    teacher = {"model": llama(16), "train": TRAIN, "temperatures": [0.0, 1.0], "most": 4}
    said = of_texts(
        tmp_path,
        candidates={"teachers": {"large": teacher}},
        prompts=12,
        responses=2,
        features={"dimension": 8},
    )
    found = rank(ranking_of(said), out=tmp_path / "run")
    assert set(found.ranking.names) == {"large@0", "large@1"}
    assert found.chosen.temperatures.keys() == {"large"}
    repeated = {each.name: each.beside["duplicate_rate"] for each in found.ranking.candidates}
    assert repeated["large@0"] == 0.5 > repeated["large@1"]
    lines = (tmp_path / "run" / "texts" / "large@1" / "answers-1.jsonl").read_text().splitlines()
    assert len(lines) == 12 + 1  # and who wrote them
    assert any("were cut before their end" in sentence for sentence in found.cautions)


def test_image_teachers_are_ranked_by_their_probabilities_and_flat_ones_are_told(
    tmp_path: Path,
) -> None:
    mlp = {"zoo": "mlp", "arguments": {"widths": [24]}}
    plan = {"batch": 16, "optimizer": {"name": "adamw", "lr": 0.01}}
    teachers = {
        "early": {"model": mlp, "train": {"steps": 1, **plan}},
        "late": {"model": mlp, "train": {"steps": 60, **plan}},
    }
    said = {
        "data": {"source": "toy"},
        "student": {"model": mlp},
        "candidates": {"teachers": teachers},
        "features": {"dimension": 16},
        "threads": 1,
    }
    found = rank(ranking_of(said), out=tmp_path / "run")
    assert found.ranking.names == ("early", "late")
    assert "mean_length" not in found.ranking.best.beside
    assert any(sentence.startswith("early: its answers have") for sentence in found.cautions)


def test_the_same_caution_about_several_candidates_is_said_once(tmp_path: Path) -> None:
    answers(tmp_path / "answers.jsonl")
    said = of_texts(tmp_path, responses=1)
    found = rank(ranking_of(said), out=tmp_path / "run")
    alone = [each for each in found.cautions if "has one response a prompt" in each]
    assert len(alone) == 3
    shown = standing(found)
    assert "! good, wild, same: each has one response a prompt" in shown


SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="GSM8K's real solutions are not on this machine")
def test_six_models_solutions_of_gsm8k_are_ranked_from_their_two_files(tmp_path: Path) -> None:
    paths = (
        f"data.source={SHARED / 'gsm8k' / 'train.jsonl'}",
        f"candidates.texts.0.source={SHARED / 'gsm8k' / 'example_model_solutions.jsonl'}",
        f"candidates.texts.1.source={SHARED / 'routing' / 'gsm8k_responses.csv'}",
    )
    short = ("data.limit=200", "student.train.steps=2", "prompts=20", "features.dimension=8")
    found = rank(load_ranking("gsm8k-teachers", (*paths, *short)), out=tmp_path / "run")
    assert len(found.ranking.names) == 6
    assert set(found.chosen.families) == {"gpt-3", "gpt-4", "mixtral"}
    length = {each.name: each.beside["mean_length"] for each in found.ranking.candidates}
    assert length["gpt-4"] > length["6b-verified"]


def _early(said: dict[str, Any], folder: Path) -> None:
    del folder
    said["race"] = {"first": 64}


def _few(said: dict[str, Any], folder: Path) -> None:
    del said
    answers(folder / "answers.jsonl", prompts=9)


def _lone(said: dict[str, Any], folder: Path) -> None:
    lone = {"prompt": "9+9=", "response": "18"}
    (folder / "lone.jsonl").write_text(json.dumps(lone))
    said["candidates"]["texts"].append(
        {"source": str(folder / "lone.jsonl"), "responses": {"lone": "response"}}
    )


def _long(said: dict[str, Any], folder: Path) -> None:
    del folder
    teacher = {"model": llama(16), "train": TRAIN, "most": 21}
    said["candidates"]["teachers"] = {"large": teacher}


def _nowhere(said: dict[str, Any], folder: Path) -> None:
    said["candidates"]["texts"][0]["source"] = str(folder / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_few, DataError, "prompts that all candidates answer: 9"),
        (_early, DataError, "a race that first looks after 64 prompts, of 40 in all"),
        (_lone, NeedsError, "good answers 40 prompts and lone 1, of them 0 both"),
        (_long, DataError, "large may answer with 21"),
        (_nowhere, DataError, "no such file"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_anything_is_trained(
    change: Any, error: type[PreceptorError], words: str, tmp_path: Path
) -> None:
    said = of_texts(tmp_path)
    change(said, tmp_path)
    with pytest.raises(error, match=words):
        rank(ranking_of(said), out=tmp_path / "run")
    assert not (tmp_path / "run" / "student").exists()


def test_killed_at_any_moment_a_ranking_goes_on_and_ends_with_the_same_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = {"model": llama(16), "train": TRAIN, "temperatures": [0.5, 1.0], "most": 4}
    ends: list[Path] = []
    for name in ("whole", "cut"):
        here = tmp_path / name
        here.mkdir()
        monkeypatch.chdir(here)
        said = of_texts(here, responses=2, checkpoint={"every": 2})
        said["data"]["source"], said["candidates"]["texts"][0]["source"] = (
            "sums.jsonl",
            "answers.jsonl",
        )
        said["candidates"]["teachers"] = {"large": teacher}
        recipe = written(said, here / "ranking.yaml")
        command, log = ["rank", str(recipe), "--out", "run"], tmp_path / f"{name}.log"
        if name == "cut":
            hit = [killed(command, log, there, random.Random(0)) for there in _moments(here)]
            assert any(hit), hit
        code, shown = finished(command, log)
        assert code == 0, shown
        ends.append(here / "run")
    whole, cut = ends
    for path in whole.rglob("*"):
        if path.name == "answers-1.jsonl" or path.suffix == ".safetensors":
            assert (cut / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert told(cut)["ranking"] == told(whole)["ranking"]


def _moments(here: Path) -> list[Callable[[], bool]]:
    """The student is trained, features are taken, a teacher has written."""

    def there(pattern: str) -> Callable[[], bool]:
        return lambda: next(here.glob(pattern), None) is not None

    return [
        there("run/student/stage-0/checkpoints/step-*"),
        there("run/features/wild/manifest.json"),
        there("run/texts/large@1/answers-0.jsonl"),
    ]
