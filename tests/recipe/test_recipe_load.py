"""Recipes from files, presets and command lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preceptor.errors import RecipeError
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.recipe.load import load_recipe, model_of, preset_names, recipe_text
from preceptor.recipe.models import (
    FactoryModel,
    FolderModel,
    TimmModel,
    TransformersModel,
    ZooModel,
)
from preceptor.recipe.schema import Data
from preceptor.recipe.teachers import LiveTeacher
from preceptor.recipe.text import from_yaml, to_yaml
from preceptor.train.plan import OptimizerPlan, SchedulePlan

Small = Callable[..., dict[str, Any]]
PRESETS = Path(__file__).parents[2] / "preceptor" / "recipe" / "presets"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_written_back_the_same(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    (tmp_path / "recipe.yaml").write_text(recipe_text(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("name", preset_names())
def test_every_number_of_a_preset_cites_its_source(name: str) -> None:
    for line in (PRESETS / f"{name}.yaml").read_text().splitlines():
        said, _, comment = line.partition("#")
        if any(letter.isdigit() for letter in said.partition(":")[2]) and "model" not in said:
            assert "[" in comment or "source" in said, line


def test_the_digits_preset_is_the_design_s_recipe() -> None:
    recipe = load_recipe("digits")
    assert recipe.seed.values() == tuple(range(8))
    assert isinstance(recipe.data, Data)
    assert (recipe.data.labelled, recipe.data.unlabelled) == (100, "rest")
    assert isinstance(recipe.teacher, LiveTeacher)
    assert recipe.teacher.train is not None
    assert recipe.teacher.train.steps == 400
    assert recipe.teacher.train.optimizer == OptimizerPlan(name="adamw", lr=2e-3)
    (stage,) = recipe.stages
    assert stage.objective == 0.1 * CE() + 0.9 * KD(temperature=4.0)
    assert stage.plan.optimizer == OptimizerPlan(name="sgd", lr=0.1, momentum=0.9)
    assert (stage.plan.steps, stage.plan.batch) == (300, 64)


def test_cifar10_is_the_literature_s_protocol() -> None:
    (stage,) = load_recipe("cifar10").stages
    assert stage.plan.epochs == 240
    assert stage.plan.batch == 64
    assert stage.plan.optimizer == OptimizerPlan("sgd", lr=0.05, momentum=0.9, weight_decay=5e-4)
    drops = tuple(epoch / 240 for epoch in (150, 180, 210))
    assert stage.plan.schedule == SchedulePlan("drops", drops=drops, factor=0.1)
    data = load_recipe("cifar10").data
    assert isinstance(data, Data)
    assert data.augment is not None
    short = load_recipe("cifar10-short").stages[0]
    assert (short.plan.optimizer, short.plan.schedule) == (
        stage.plan.optimizer,
        stage.plan.schedule,
    )


def test_a_file_names_the_run_unless_the_recipe_does(tmp_path: Path, small: Small) -> None:
    path = tmp_path / "my first run!.yaml"
    path.write_text(to_yaml(small()))
    assert load_recipe(path).name == "my-first-run-"
    path.write_text(to_yaml(small(name="other")))
    assert load_recipe(str(path)).name == "other"


def test_settings_change_a_recipe_in_any_form() -> None:
    recipe = load_recipe("digits", ["seed.count=2", "stages.0.objective.1.kd.temperature=8"])
    assert recipe.seed.count == 2
    assert recipe.stages[0].objective == 0.1 * CE() + 0.9 * KD(temperature=8.0)
    assert load_recipe(recipe, ["seed.count=8"]).seed.count == 8


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digitz", "neither a file nor a preset; nearest presets: digits"),
        ("cifar", "nearest presets: cifar10"),
        ("nowhere/digits.yaml", "there is no such file; nearest presets: digits"),
    ],
)
def test_a_name_that_is_nothing_comes_with_the_nearest_presets(name: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert words in str(caught.value)


def test_a_misspelt_file_comes_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: 1")
    with pytest.raises(RecipeError, match=r"nearest file there: mine\.yaml"):
        load_recipe(tmp_path / "mnie.yaml")


def test_a_folder_and_a_binary_file_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="it is a folder"):
        load_recipe(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "weights.bin")


@pytest.mark.parametrize("text", ["", "3", "- a", "just words"])
def test_a_text_without_sections_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RecipeError, match="it holds no mapping"):
        load_recipe(tmp_path / "x.yaml")


def test_a_mistake_in_a_file_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("data: {source: toy}\nseed: [1\nstages: 3\n")
    with pytest.raises(RecipeError, match=r"x\.yaml, line 3"):
        load_recipe(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("resnet8x4", ZooModel(zoo="resnet8x4")),
        ("timm:resnet18.a1_in1k", TimmModel(timm="resnet18.a1_in1k")),
        ("transformers:google/vit", TransformersModel(transformers="google/vit")),
        ("my.package:net", FactoryModel(factory="my.package:net")),
        ("{zoo: mlp, size: 8}", ZooModel(zoo="mlp", size=8)),
    ],
)
def test_a_model_is_named_in_one_word(text: str, meant: Any) -> None:
    assert model_of(text) == meant


def test_a_folder_is_a_model(tmp_path: Path) -> None:
    assert model_of(str(tmp_path)) == FolderModel(folder=str(tmp_path))


def test_a_wrong_model_is_refused_in_words() -> None:
    with pytest.raises(RecipeError, match="sise: unknown key; nearest: size"):
        model_of("{zoo: mlp, sise: 8}")


def test_text_and_data_are_the_same() -> None:
    assert from_yaml(recipe_text(load_recipe("digits")), "x")["name"] == "digits"
