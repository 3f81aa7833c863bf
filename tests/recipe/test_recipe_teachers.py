"""How a recipe names teachers."""

from collections.abc import Callable
from typing import Any

import pytest

from preceptor.errors import RecipeError
from preceptor.recipe.load import plain, recipe_of
from preceptor.recipe.teachers import CachedTeacher, EnsembleTeacher, LiveTeacher

Small = Callable[..., dict[str, Any]]

LIVE = {"model": {"zoo": "cnn-large"}, "load": "folder"}
EVERY_KIND = [
    LIVE,
    {"model": {"zoo": "cnn-large"}, "train": {"epochs": 1}},
    {"model": {"timm": "resnet18", "pretrained": True}},
    {"model": {"folder": "runs/a/student"}},
    {"nobody": {}},
    {"ensemble": {"members": [LIVE, {"ema": {}}], "combine": "logits", "weights": [0.25, 0.75]}},
    {"ema": {"decay": 0.99}},
    {"snapshots": {"at": 500, "last": 2}},
    {"snapshots": {"at": [500, 800]}},
    {"born_again": {"generations": 2}},
    {"peers": {"others": [{"zoo": "cnn-small"}, {"zoo": "mlp"}]}},
    {"past_predictions": {"momentum": 0.6}},
    {"cached": {"teacher": LIVE, "folder": "cache"}},
    {"altered": {"teacher": LIVE, "shuffle": "below_first"}},
]


@pytest.mark.parametrize("teacher", EVERY_KIND, ids=lambda teacher: next(iter(teacher)))
def test_every_kind_of_teacher_is_read_and_written(small: Small, teacher: Any) -> None:
    recipe = recipe_of(small(teacher=teacher))
    key = next(iter(teacher))
    assert hasattr(recipe.teacher, key)
    assert recipe_of(plain(recipe)) == recipe


def test_teachers_may_hold_teachers(small: Small) -> None:
    inner = {"ensemble": {"members": [LIVE, LIVE]}}
    recipe = recipe_of(small(teacher={"cached": {"teacher": inner, "folder": "x"}}))
    assert isinstance(recipe.teacher, CachedTeacher)
    assert isinstance(recipe.teacher.cached.teacher, EnsembleTeacher)
    assert isinstance(recipe.teacher.cached.teacher.ensemble.members[0], LiveTeacher)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ({"model": {"zoo": "x"}}, "teacher: this teacher would be random"),
        ({"modle": {"zoo": "x"}}, "teacher: {modle}: names none of model, nobody"),
        ({**LIVE, "train": {"steps": 1}}, "teacher: names train and load"),
        ({**LIVE, "ema": {}}, "teacher: names model and ema, and exactly one of them can be"),
        ({"ema": {"decay": 1}}, "teacher.ema.decay: 1: must be < 1"),
        (
            {"ensemble": {"members": [LIVE], "weights": [0.5, 0.5]}},
            "teacher.ensemble.weights: 2 weights for 1 members",
        ),
        (
            {"ensemble": {"members": [LIVE, LIVE], "weights": [1, 1]}},
            "teacher.ensemble.weights: [1.0, 1.0]: they add up to 2, and must to 1",
        ),
        (
            {"ensemble": {"members": [LIVE, {"model": {"zo": 1}, "load": "x"}]}},
            "teacher.ensemble.members.1.model: {zo}: names none of zoo",
        ),
        (
            {"cached": {"teacher": {**LIVE, "lod": 1}, "folder": "x"}},
            "teacher.cached.teacher.lod: unknown key; nearest: load",
        ),
        (
            {"ensemble": {"members": [LIVE, {"nobody": {}}]}},
            "teacher.ensemble.members.1: nobody: it has no answer of its own to average",
        ),
        (
            {"cached": {"teacher": {"ema": {}}, "folder": "x"}},
            "teacher.cached.teacher: ema: only a teacher that stands still",
        ),
        (
            {"cached": {"teacher": {"ensemble": {"members": [{"ema": {}}]}}, "folder": "x"}},
            "teacher.cached.teacher.ensemble.members.0: ema: only a teacher that stands still",
        ),
        (
            {"altered": {"teacher": {"nobody": {}}, "noise": 1}},
            "teacher.altered.teacher: nobody: it has no answer of its own to alter",
        ),
        (
            {"altered": {"teacher": LIVE, "noise": 1, "random": True}},
            "teacher.altered: names not exactly one of smooth, shuffle, noise and random",
        ),
        ({"snapshots": {"at": 0}}, "teacher.snapshots.at: 0: must be >= 1"),
        ({"nobody": {"x": 1}}, "teacher.nobody.x: unknown key"),
        (
            {"model": {"zoo": "x"}, "train": {"steps": 1, "batch": 0}},
            "teacher.train.batch: 0: must be >= 1",
        ),
    ],
)
def test_a_wrong_teacher_is_named_with_its_path(small: Small, teacher: Any, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(small(teacher=teacher))
    assert words in str(caught.value)
