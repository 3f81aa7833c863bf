"""A teacher behind a server, from a recipe: it scores, and it writes."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from preceptor.recipe.load import recipe_of
from preceptor.verbs.distill import distill
from tests.servers.scores import scoring
from tests.servers.serving import serving
from tests.verbs.small import ran
from tests.verbs.text import sums, written_recipe


@pytest.fixture
def taught(tmp_path: Path) -> Path:
    """The folder of a teacher that a run trained."""
    ran(written_recipe(sums(tmp_path / "sums.jsonl")), tmp_path / "first")
    return tmp_path / "first/teachers/teacher/student"


def served(taught: Path, folder: Path, url: str, **fields: Any) -> dict[str, Any]:
    recipe = written_recipe(sums(folder / "sums.jsonl"))
    recipe["data"]["tokenizer"] = str(taught)
    recipe["teacher"] = {"served": {"url": url, "model": "m", "top_k": 5, **fields}}
    del recipe["data"]["verify"]
    return recipe


@pytest.mark.parametrize("api", ["vllm", "sglang"])
def test_each_kind_of_server_is_asked_in_its_own_words(
    taught: Path, tmp_path: Path, api: str
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(taught).eval()
    with serving(scoring(model)) as server:
        report = ran(served(taught, tmp_path, server.url, api=api), tmp_path / "run")
    assert report.primary == "bits_per_byte"
    paths = {request.path for request in server.asked}
    assert paths == {"/v1/completions" if api == "vllm" else "/generate"}


@pytest.mark.parametrize("rollouts", [{"gkd": {"share": 0.0, "teacher_share": 1.0, "most": 4}}])
def test_a_server_writes_what_the_student_learns_from(
    taught: Path, tmp_path: Path, rollouts: dict[str, Any]
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(taught).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(taught)
    with serving(scoring(model, end=tokenizer.eos_token_id)) as server:
        recipe = served(taught, tmp_path, server.url)
        recipe["stages"][0] |= {
            "rollouts": rollouts,
            "objective": [{"kd": {"temperature": 1, "over": "teacher_written"}}],
        }
        distill(recipe_of(recipe), out=tmp_path / "run")
        asked = [request.payload for request in server.asked]
    wrote = [payload for payload in asked if payload.get("return_token_ids")]
    plan = recipe["stages"][0]["plan"]
    assert len(wrote) >= plan["steps"] * plan["batch"]
    assert {(payload["max_tokens"], payload["temperature"]) for payload in wrote} == {(4, 1.0)}
    assert len({payload["seed"] for payload in wrote}) > plan["batch"]
