"""Other ways to teach a recipe's student: what they may be, and the preset that has them all."""

from collections.abc import Callable
from typing import Any

import pytest

from preceptor.errors import RecipeError
from preceptor.objectives.base import Sum, Weighted
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.recipe.load import load_recipe, recipe_of
from preceptor.recipe.methods import key_of, method_names
from preceptor.recipe.schema import Data
from preceptor.recipe.teachers import NobodyTeacher

Small = Callable[..., dict[str, Any]]
CE_ALONE = [{"ce": {}}]


def stages(*steps: int) -> list[dict[str, Any]]:
    return [{"objective": CE_ALONE, "plan": {"steps": count}} for count in steps]


def test_a_variant_keeps_what_it_does_not_say(small: Small) -> None:
    recipe = recipe_of(small(variants={"plain": {"objective": CE_ALONE}}))
    way = recipe.way("plain")
    assert way.stages[0].objective == Sum((Weighted(CE(), 1.0),))
    assert way.stages[0].plan == recipe.stages[0].plan
    assert (way.teacher, way.student, way.data) == (recipe.teacher, recipe.student, recipe.data)
    assert not way.variants


def test_a_variant_may_have_stages_and_a_teacher_of_its_own(small: Small) -> None:
    said = {"stages": stages(1, 1), "teacher": {"nobody": {}}}
    way = recipe_of(small(variants={"two": said})).way("two")
    assert [stage.plan.steps for stage in way.stages] == [1, 1]
    assert way.teacher == NobodyTeacher()


def test_the_students_own_way_comes_first_and_is_the_recipe(small: Small) -> None:
    recipe = recipe_of(small(variants={"b": {"objective": CE_ALONE}, "a": {"objective": CE_ALONE}}))
    assert list(recipe.ways()) == ["distilled", "b", "a"]
    assert recipe.way("distilled") == recipe


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("control", {"objective": CE_ALONE}, "variants.control: this is the name of another arm"),
        ("distilled", {"objective": CE_ALONE}, "this is the name of another arm"),
        ("a-b", {"objective": CE_ALONE}, "variants.a-b"),
        ("a", {}, "variants.a: says not exactly one of objective and stages"),
        ("a", {"objective": CE_ALONE, "stages": stages(2)}, "not exactly one"),
        ("a", {"stages": stages(2, 1)}, "variants.a.stages: it takes 3 steps, the recipe's own 2"),
        ("a", {"objective": [{"kdd": {}}]}, "variants.a.objective.0.kdd: unknown method"),
        ("a", {"objectiv": CE_ALONE}, "variants.a.objectiv: unknown key; nearest: objective"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(
    small: Small, name: str, said: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(small(variants={name: said}))
    assert words in str(caught.value)


def test_one_objective_cannot_stand_for_several_stages(small: Small) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(small(stages=stages(1, 1), variants={"a": {"objective": CE_ALONE}}))
    assert "variants.a.objective: the recipe has 2 stages" in str(caught.value)


def test_peers_cannot_teach_one_stage_of_a_variant(small: Small) -> None:
    stage = {**stages(2)[0], "teacher": {"peers": {"others": [{"zoo": "cnn-small"}]}}}
    with pytest.raises(RecipeError) as caught:
        recipe_of(small(variants={"a": {"stages": [stage]}}))
    assert "variants.a.stages.0.teacher" in str(caught.value)


def methods_of(name: str) -> set[str]:
    ways = load_recipe(name).ways().values()
    objectives = [stage.objective for way in ways for stage in way.stages]
    return {key_of(part.part) for objective in objectives for part in objective.parts()}


OF_TEXT = {
    "adaptive_kl",
    "byte_chunks",
    "distillm2",
    "embedding_distillation",
    "embedding_pull",
    "gkd",
    "minilm",
    "minillm",
    "nt_xent",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "taid",
    "total_variation",
    "uld",
}
"""Methods that were published for text; its presets have them."""


def test_the_tournaments_have_every_method_for_images() -> None:
    nets, transformers = methods_of("digits-methods"), methods_of("digits-transformers")
    assert "smoothing" in load_recipe("digits-methods").control.arms
    assert nets | transformers | {"label_smoothing"} == set(method_names()) - OF_TEXT
    assert transformers - nets == {"attention_maps", "hidden_states"}


def test_the_tournament_is_held_on_the_digits_preset() -> None:
    tournament, digits = load_recipe("digits-methods"), load_recipe("digits")
    for section in ("seed", "data", "teacher", "student", "stages", "control"):
        assert getattr(tournament, section) == getattr(digits, section), section


def test_the_omitted_digit_is_learned_from_soft_answers_alone() -> None:
    recipe = load_recipe("digits-omitted")
    assert isinstance(recipe.data, Data)
    assert recipe.data.omit == (3,)
    assert recipe.stages[0].objective == Sum((Weighted(KD(temperature=8.0), 1.0),))
