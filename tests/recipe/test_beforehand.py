"""A recipe whose teacher a ranking finds: what it may say, and where a mistake is named."""

from typing import Any

import pytest

from preceptor.errors import NeedsError, PreceptorError, RecipeError
from preceptor.recipe.beforehand import possible, rank_of, ranking_in, written_at
from preceptor.recipe.load import plain, recipe_of
from preceptor.recipe.rollouts import SequenceRollouts
from preceptor.recipe.teachers import EnsembleTeacher, LiveTeacher
from preceptor.verbs.check import require_fit

MODEL = {"causal": {"model_type": "llama"}}
TEACHER = {"model": MODEL, "train": {"steps": 3}}
SERVER = {"served": {"url": "http://localhost:1/v1", "model": "m"}}
STAGE = {"objective": [{"kd": {"temperature": 1}}], "plan": {"steps": 3}}
HOT = {**STAGE, "objective": [{"kd": {"temperature": 4}}]}


def ranked(said: Any, **sections: Any) -> dict[str, Any]:
    """A recipe of text with such a ranking, and some of its sections replaced."""
    whole = {
        "data": {"kind": "text", "source": "arithmetic", "tokenizer": {"characters": True}},
        "teacher": {"rank": said},
        "student": {"model": MODEL},
        "stages": [STAGE],
    }
    return {**whole, **sections}


def test_a_list_is_numbered_and_written_back_with_its_names() -> None:
    recipe = recipe_of(ranked([TEACHER, SERVER]))
    fields = rank_of(recipe)
    assert fields is not None
    assert list(fields.of) == ["candidate-1", "candidate-2"]
    assert recipe_of(plain(recipe)) == recipe
    assert rank_of(recipe_of(ranked([TEACHER], teacher=TEACHER))) is None


def test_the_ranking_is_of_the_recipes_own_student_data_and_candidates() -> None:
    said = {
        "of": {"a": TEACHER, "b": TEACHER},
        "warm_up": {"steps": 2},
        "prompts": 99,
        "limit": 3.0,
    }
    recipe = recipe_of(ranked({**said, "cost": {"a": 1.0, "b": 2.0}}))
    fields = rank_of(recipe)
    assert fields is not None
    ranking = ranking_in(recipe, fields)
    assert ranking.data == recipe.data
    assert ranking.student.model == recipe.student.model
    assert ranking.student.train is not None
    assert ranking.student.train.steps == 2
    assert (ranking.prompts, ranking.choose.limit) == (99, 3.0)
    assert list(ranking.candidates.teachers) == ["a", "b"]


def test_a_recipe_may_become_one_of_each_candidate_or_all_of_them_together() -> None:
    each = possible(recipe_of(ranked([TEACHER, {**TEACHER, "temperatures": [0.5, 1.0]}])))
    assert [type(one.teacher) for one in each] == [LiveTeacher, LiveTeacher]
    (both,) = possible(recipe_of(ranked({"of": [TEACHER, TEACHER], "ensemble": 2})))
    assert isinstance(both.teacher, EnsembleTeacher)
    assert len(both.teacher.ensemble.members) == 2


def test_text_is_drawn_at_the_temperature_that_was_chosen() -> None:
    stage = {**STAGE, "rollouts": {"sequence_kd": {"folder": "answers", "most": 4}}}
    recipe = recipe_of(ranked([{**TEACHER, "temperatures": [0.5, 1.0]}, TEACHER], stages=[stage]))
    fields = rank_of(recipe)
    assert fields is not None
    several, one = fields.of.values()

    def temperature(said: Any) -> float:
        assert isinstance(said.stages[0].rollouts, SequenceRollouts)
        return said.stages[0].rollouts.sequence_kd.temperature

    assert temperature(written_at(recipe, several, 0.5)) == 0.5
    assert temperature(written_at(recipe, one, 0.5)) == 1.0


IMAGES = {"data": {"source": "toy"}, "student": {"model": {"zoo": "mlp"}}}
IMAGE = {"model": {"zoo": "mlp"}, "train": {"steps": 3}}


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (ranked([]), RecipeError, "teacher.rank.of: has 0 entries"),
        (ranked([{"ema": {}}]), RecipeError, "teacher.rank.of.candidate-1: {ema}: names none of"),
        (ranked({"of": [TEACHER], "ensemble": 2}), RecipeError, "teacher.rank.ensemble: 2: there"),
        (ranked([TEACHER, {**TEACHER, "temperatures": [1.0, 1.0]}]), RecipeError, "comes twice"),
        (ranked({"of": [TEACHER], "every": "stage"}), RecipeError, "there is one stage"),
        (ranked([TEACHER], stages=[STAGE, {**STAGE, "teacher": {"rank": [TEACHER]}}]),
         RecipeError, "stages.1.teacher: rank: candidates are ranked before the run"),
        (ranked({"of": {"a": TEACHER}, "limit": 3.0}), RecipeError,
         "teacher.rank: a limit and costs make sense together alone. Say both cost and limit"),
        (ranked({"of": {"a": TEACHER, "b": TEACHER}, "limit": 1.0, "cost": {"a": 3.0}}),
         RecipeError, "teacher.rank.cost: b is a candidate, and is not told"),
        (ranked({"of": {"a": TEACHER}, "limit": 1.0, "cost": {"a": "3 EUR"}}), RecipeError,
         "teacher.rank.cost.a: '3 EUR': must be a number, without a unit"),
        (ranked({"of": {"a": TEACHER}, "limit": 3.0, "cost": {"b": 1.0}}), RecipeError,
         "teacher.rank.cost: a is a candidate"),
        (ranked({"of": {"a": TEACHER}, "limit": 0.1, "cost": {"a": 1.0}}), RecipeError,
         "teacher.rank.limit: 0.1: the cheapest candidate, a, costs 1"),
        (ranked({"of": {"a": SERVER}, "limit": 3.0, "cost": "parameters"}), RecipeError,
         "a is no model that is loaded here"),
        (ranked([{**IMAGE, "temperatures": [0.5]}], **IMAGES), RecipeError,
         "teacher.rank.of.candidate-1.temperatures: an image's answer"),
        (ranked([SERVER], **IMAGES), RecipeError, "teacher.rank.of.candidate-1.served: a server"),
        (ranked([TEACHER], student={"model": MODEL, "start": {"project": {}}}), RecipeError,
         "the student is asked before there is a teacher"),
        (ranked({"of": [TEACHER, SERVER], "ensemble": 2}), NeedsError, "member 1 of the ensemble"),
        (ranked([TEACHER, SERVER], stages=[HOT]), NeedsError, "with the teacher served"),
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_is_refused_where_the_recipe_says_it(
    data: dict[str, Any], error: type[PreceptorError], words: str
) -> None:
    with pytest.raises(error) as caught:
        require_fit(recipe_of(data))
    assert words in str(caught.value)
