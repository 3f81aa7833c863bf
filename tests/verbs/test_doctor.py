"""What `check --deep` says of two language models, and what it warns of."""

from pathlib import Path
from typing import Any

import pytest

from preceptor.data.tokenizers import load_tokenizer
from preceptor.models.load import load_model, save_model
from preceptor.recipe.load import recipe_of
from preceptor.verbs.check import check
from tests.verbs.small import ran
from tests.verbs.text import sums, written_recipe


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Rows, and a run that holds a trained teacher with its tokenizer."""
    folder = tmp_path_factory.mktemp("doctor")
    source = sums(folder / "sums.jsonl", rows=250)
    ran(written_recipe(source, control={"arms": []}), folder / "run")
    return source, folder / "run/teachers/teacher/student"


def _deep(source: Path, teacher: dict[str, Any], tokenizer: Path, **data: Any) -> str:
    recipe = written_recipe(source, teacher=teacher)
    recipe["data"] |= {"tokenizer": str(tokenizer), **data}
    return check(recipe_of(recipe), deep=True, price=3.0)


def test_slices_equal_dense_logits_and_a_cache_equals_the_live_teacher_on_the_pair_itself(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    source, folder = pair
    live = {"model": {"folder": str(folder)}}
    keep = {"top_k": 40}
    cached = {"cached": {"teacher": live, "folder": str(tmp_path / "tokens"), "keep": keep}}
    words = _deep(source, cached, folder)
    each = "by slices of", "bytes a token", "covers 100.0 % of the teacher's mass", "a lead of +"
    for said in (*each, "lies on the student's 10 likeliest tokens"):
        assert said in words
    assert "at 3 an hour" in words
    assert not (tmp_path / "tokens").exists()
    gap = float(words.partition(" nats on average")[0].rpartition(" ")[2])
    assert gap < 0.05


def test_a_teacher_no_better_than_the_student_is_a_warning(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    source, folder = pair
    spec = {**load_model({"folder": str(folder)}).spec}
    fresh = load_model({"causal": spec["causal"]})
    save_model(fresh, tmp_path / "fresh", load_tokenizer(folder))
    recipe = written_recipe(source, teacher={"model": {"folder": str(tmp_path / "fresh")}})
    recipe["data"]["tokenizer"] = str(folder)
    recipe["student"] = {"model": {"folder": str(folder)}}
    words = check(recipe_of(recipe), deep=True)
    line = next(each for each in words.splitlines() if "nats a token" in each)
    assert line.startswith("! On 2")
    assert "No lead is shown" in line or "Do not distil from it" in line


def test_rows_that_were_dropped_are_counted_and_the_first_is_named(
    pair: tuple[Path, Path],
) -> None:
    source, folder = pair
    live = {"model": {"folder": str(folder)}}
    words = _deep(source, live, folder, max_length=7, truncate="drop")
    assert "training rows are longer than 7 tokens and were dropped" in words
    assert "sums.jsonl:" in words


def test_padded_rows_of_a_head_are_set_aside_and_counted(pair: tuple[Path, Path]) -> None:
    source, folder = pair
    recipe = written_recipe(source, teacher={"model": {"folder": str(folder)}})
    recipe["data"]["tokenizer"] = str(folder)
    recipe["student"]["model"]["causal"]["vocab_size"] = 32
    words = check(recipe_of(recipe), deep=True)
    assert "of 32 head rows set aside" in words
