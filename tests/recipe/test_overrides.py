"""Keys of a recipe changed from outside."""

from typing import Any

import pytest

from preceptor.errors import RecipeError
from preceptor.recipe.load import load_recipe
from preceptor.recipe.overrides import overridden


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("a.b=2", {"a": {"b": 2}, "s": [{"p": {"x": 1}}], "n": None}),
        ("s.0.p.x=1e-3", {"a": {"b": 1}, "s": [{"p": {"x": 0.001}}], "n": None}),
        ("s.0=q", {"a": {"b": 1}, "s": ["q"], "n": None}),
        (
            "n.deep.er=[1, 2]",
            {"a": {"b": 1}, "s": [{"p": {"x": 1}}], "n": {"deep": {"er": [1, 2]}}},
        ),
        ("a={c: 3}", {"a": {"c": 3}, "s": [{"p": {"x": 1}}], "n": None}),
        ("a.b=x=y", {"a": {"b": "x=y"}, "s": [{"p": {"x": 1}}], "n": None}),
        ("a.b=", {"a": {"b": None}, "s": [{"p": {"x": 1}}], "n": None}),
    ],
)
def test_one_key_changes_and_nothing_else(setting: str, meant: Any) -> None:
    data = {"a": {"b": 1}, "s": [{"p": {"x": 1}}], "n": None}
    assert overridden(data, [setting]) == meant
    assert data == {"a": {"b": 1}, "s": [{"p": {"x": 1}}], "n": None}


def test_an_anchor_s_second_place_stays_as_it_was() -> None:
    recipe = load_recipe("cifar10", ["stages.0.plan.epochs=1"])
    assert recipe.stages[0].plan.epochs == 1
    assert recipe.teacher.train.epochs == 240  # type: ignore[union-attr]


def test_later_settings_stand_on_earlier_ones() -> None:
    assert overridden({}, ["a={b: 1}", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("seed", "--set seed: it has no key and value"),
        ("=3", "it has no key and value"),
        ("seed.cont=3", "seed.cont: unknown key; nearest: count"),
        ("sed.count=3", "sed: unknown key; nearest: seed"),
        ("seed.count=many", "seed.count: 'many': must be a whole number"),
        ("stages.1.plan.steps=3", "stages is a list of 1, and '1' is none of its numbers"),
        ("stages.x=3", "'x' is none of its numbers"),
        ("stages.0.plan.schedule.warmup=0.1", "schedule is cosine, which has no key 'warmup'"),
        (
            "stages.0.objective.1.kd.temperatur=3",
            "kd.temperatur: unknown key; nearest: temperature",
        ),
        ("seed.count=[1", "--set seed.count=[1, line 1"),
        ("seed.count=.nan", "not a finite number"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", [setting])
    assert words in str(caught.value)
