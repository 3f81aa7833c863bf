"""The recipe's sections, and what is said about mistakes in them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from preceptor.data.augment import Augment
from preceptor.errors import RecipeError
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.recipe.load import plain, recipe_of
from preceptor.recipe.models import ZooModel
from preceptor.recipe.schema import Data, Recipe, Seeds, Stage, Student
from preceptor.recipe.teachers import LiveTeacher
from preceptor.train.plan import OptimizerPlan, Plan, SchedulePlan

Small = Callable[..., dict[str, Any]]


def mistake(data: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_of(data)
    return str(caught.value)


def test_the_shortest_recipe_means_its_documented_defaults(small: Small) -> None:
    recipe = recipe_of(small())
    assert recipe.seed == Seeds(count=1, first=0)
    assert recipe.data == Data(source="toy")
    assert isinstance(recipe.data, Data)
    assert (recipe.data.labelled, recipe.data.unlabelled) == ("all", "none")
    assert recipe.control.arms == ("control", "smoothing", "longer")
    assert recipe.evaluate == ("accuracy", "calibration", "fidelity", "cost")
    assert recipe.stages[0].teacher is None
    assert recipe.tune is None


def test_a_recipe_in_python_is_the_same_value_as_one_in_yaml(small: Small) -> None:
    written = small(
        stages=[
            {
                "objective": [{"ce": {}, "weight": 0.1}, {"kd": {"temperature": 2}}],
                "plan": {"steps": 3, "schedule": "cosine", "optimizer": {"lr": 1}},
            }
        ]
    )
    built = Recipe(
        data=Data(source="toy"),
        teacher=LiveTeacher(model=ZooModel(zoo="cnn-large"), train=Plan(steps=2)),
        student=Student(model=ZooModel(zoo="cnn-small")),
        stages=(
            Stage(
                objective=0.1 * CE() + KD(temperature=2.0),
                plan=Plan(
                    steps=3, schedule=SchedulePlan(name="cosine"), optimizer=OptimizerPlan(lr=1.0)
                ),
            ),
        ),
    )
    assert recipe_of(written) == built


def test_plain_data_comes_back_as_the_same_recipe(small: Small) -> None:
    recipe = recipe_of(
        small(
            data={"source": {"train": "a", "test": "b"}, "augment": {"views": 2}, "omit": [3]},
            student={"model": {"zoo": "cnn-small"}, "start": {"from": "somewhere"}},
            stages=[
                {
                    "objective": [
                        {"ce": None, "weight": {"from": 1, "to": 0.5, "over": 3, "unit": "epochs"}},
                        {"fitnets": {"layers": [["stage1", "stage2"]]}, "weight": {"auto": 0.2}},
                    ],
                    "plan": {"epochs": 3, "trainable": "head.*"},
                    "teacher": {"nobody": {}},
                }
            ],
            tune={"lr": [0.1, 0.2]},
            trackers=["tensorboard"],
        )
    )
    assert recipe_of(json.loads(json.dumps(plain(recipe)))) == recipe
    assert isinstance(recipe.data, Data)
    assert recipe.data.augment == Augment(views=2)


def test_a_recipe_has_a_json_schema() -> None:
    schema = Recipe.model_json_schema()
    assert set(schema["required"]) == {"data", "student", "stages"}
    assert schema["additionalProperties"] is False
    plan = schema["$defs"]["Plan"]["properties"]
    assert plan["batch"]["minimum"] == 1


def test_a_recipe_cannot_be_changed(small: Small) -> None:
    recipe = recipe_of(small())
    with pytest.raises(Exception, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]


def test_seeds_follow_the_first() -> None:
    assert Seeds(count=3, first=5).values() == (5, 6, 7)


def test_an_unknown_key_comes_with_its_path_and_the_nearest(small: Small) -> None:
    said = mistake(small(sed={"count": 2}))
    assert said.startswith("sed: unknown key; nearest: seed.")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"seed": {"count": 0}}, "seed.count: 0: must be >= 1"),
        ({"seed": {"count": "8"}}, "seed.count: '8': must be a whole number"),
        ({"seed": {"count": True}}, "seed.count: True: must be a whole number"),
        ({"seed": {"count": 1.5}}, "seed.count: 1.5: must be a whole number"),
        ({"seed": 3}, "seed: 3: must be a mapping with keys of count, first"),
        ({"data": {}}, "data.source: this key is required"),
        ({"data": {"source": "toy", "validation": 1}}, "data.validation: 1: must be < 1"),
        (
            {"data": {"source": "toy", "labelled": "al"}},
            "data.labelled: 'al': must be a whole number or 'all'; nearest: all",
        ),
        (
            {"data": {"source": "toy", "augment": {"crp": 1}}},
            "data.augment.crp: unknown key; nearest: crop",
        ),
        (
            {"data": {"source": {"train": "a", "tset": "b"}}},
            "data.source.tset: unknown key; nearest: test",
        ),
        ({"data": {"source": "toy", "unlabelled": "rest"}}, "data.unlabelled: 'rest': no unlab"),
        ({"student": {"model": {"zo": "x"}}}, "student.model: {zo}: names none of zoo, timm"),
        (
            {"student": {"model": {"zoo": "x", "timm": "y"}}},
            "student.model: names zoo and timm, and exactly one of them can be",
        ),
        (
            {"student": {"model": {"zoo": "x", "clases": 3}}},
            "student.model.clases: unknown key; nearest: classes",
        ),
        ({"student": {"model": "resnet"}}, "student.model: 'resnet': must be a mapping with one"),
        (
            {"student": {"model": {"zoo": "x"}, "start": {"form": "x"}}},
            "student.start: {form}: names none of random, from, guide, project, select, prune, ",
        ),
        (
            {"student": {"model": {"zoo": "x"}, "start": 3}},
            "student.start: 3: must be a mapping with one of random, from, guide",
        ),
        ({"control": {"longer": 1}}, "control.longer: 1: must be > 1"),
        ({"control": {"arms": ["contrl"]}}, "control.arms.0: 'contrl': must be 'control', "),
        ({"tune": {"lr": [0.1]}}, "tune.lr: has 1 entries, at least 2 are needed"),
        ({"trackers": ["wandbb"]}, "nearest: wandb"),
        ({"stages": []}, "stages: has 0 entries, at least 1 are needed"),
        ({"name": "../x"}, "name: '../x'"),
    ],
)
def test_one_wrong_thing_is_named_with_its_path(
    small: Small, sections: dict[str, Any], words: str
) -> None:
    assert words in mistake(small(**sections))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"steps": -1}, "stages.0.plan.steps: -1: must be >= 0"),
        ({"steps": "10"}, "stages.0.plan.steps: '10': must be a whole number"),
        ({"stepz": 1}, "stages.0.plan.stepz: unknown key; nearest: steps"),
        (
            {"steps": 1, "optimizer": {"lr": 0}},
            "stages.0.plan.optimizer.lr: 0: must be > 0",
        ),
        (
            {"steps": 1, "optimizer": {"name": "sdg"}},
            "stages.0.plan.optimizer.name: 'sdg': must be 'sgd', 'adam' or 'adamw'; nearest: sgd",
        ),
        (
            {"steps": 1, "schedule": "cosin"},
            "stages.0.plan.schedule.name: 'cosin': must be 'constant'",
        ),
        ({"steps": 1, "epochs": 1}, "stages.0.plan: a plan with steps=1 and epochs=1"),
        ({"steps": 1, "schedule": {"name": "drops"}}, "stages.0.plan: schedule 'drops' with"),
        (3, "stages.0.plan: 3: must be a mapping with keys of steps, epochs"),
    ],
)
def test_a_wrong_plan_is_named_within_its_stage(small: Small, plan: Any, words: str) -> None:
    assert words in mistake(small(stages=[{"objective": [{"ce": {}}], "plan": plan}]))


def test_all_mistakes_are_named_at_once(small: Small) -> None:
    said = mistake(
        small(
            seed={"count": 0},
            stages=[{"objective": [{"kdd": {}}, {"ce": {}, "weight": -1}], "plan": {"steps": -2}}],
        )
    )
    assert "has 4 mistakes" in said
    for place in ("seed.count", "stages.0.objective.0.kdd", "objective.1.weight", "plan.steps"):
        assert place in said
    assert "entries" not in said  # the list of stages is long enough; its member was wrong


def test_a_section_built_in_python_answers_in_words_too() -> None:
    with pytest.raises(RecipeError, match=r"labeled: unknown key; nearest: labelled"):
        Data(source="toy", labeled=3)  # type: ignore[call-arg]


def test_peers_of_one_stage_are_refused(small: Small) -> None:
    stages = small()["stages"]
    stages[0]["teacher"] = {"peers": {"others": [{"zoo": "cnn-small"}]}}
    assert "stages.0.teacher: a cohort trains together" in mistake(small(stages=stages))
