"""A stage's objective, between a recipe's list and the value."""

from typing import Any

import pytest

from preceptor.objectives.base import Sum, Weighted
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.objectives.schedules import Auto, Ramp
from preceptor.recipe.methods import key_of, method, method_names
from preceptor.recipe.mix import read, written
from preceptor.recipe.problems import Invalid
from preceptor.testing import objective_cases


def test_a_list_of_methods_is_their_weighted_sum() -> None:
    given = [{"ce": {}, "weight": 0.1}, {"kd": {"temperature": 2}, "weight": 0.9}]
    assert read(given) == 0.1 * CE() + 0.9 * KD(temperature=2.0)


def test_a_method_without_a_weight_counts_once() -> None:
    assert read([{"ce": None}]) == Sum((Weighted(CE(), 1.0),))


@pytest.mark.parametrize(
    ("weight", "meant"),
    [
        ("auto", Auto()),
        ({"auto": 0.25}, Auto(share=0.25)),
        ({"from": 0, "to": 2, "over": 0.5}, Ramp(start=0.0, end=2.0, over=0.5)),
        ({"to": 5, "over": 20, "unit": "epochs", "shape": "cosine"},
         Ramp(end=5.0, over=20.0, unit="epochs", shape="cosine")),
        (3, 3.0),
    ],
)  # fmt: skip
def test_weights_are_numbers_ramps_or_found(weight: Any, meant: Any) -> None:
    objective = read([{"kd": {}, "weight": weight}])
    assert objective.members[0].weight == meant
    assert read(written(objective)) == objective


@pytest.mark.parametrize("name", method_names())
def test_every_method_of_the_package_is_written_and_read_back(name: str) -> None:
    case = objective_cases()[name]
    assert type(case) is method(name)
    assert key_of(case) == name
    assert read(written(0.5 * case)) == Sum((Weighted(case, 0.5),))


@pytest.mark.parametrize("name", method_names())
def test_every_method_refuses_unknown_fields(name: str) -> None:
    with pytest.raises(Invalid, match=rf"0\.{name}\.no_such_field: unknown key"):
        read([{name: {"no_such_field": 1}}])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"kd": {"temperatur": 4}}], "0.kd.temperatur: unknown key; nearest: temperature"),
        ([{"kd": {"temperature": 0}}], "0.kd.temperature: 0: must be > 0"),
        ([{"kd": {"temperature": "4"}}], "0.kd.temperature: '4': must be a number"),
        ([{"ce": {}}, {"kdd": {}}], "1.kdd: unknown method; nearest: kd"),
        ([{"kd": 4}], "0.kd: 4: must be a mapping with keys of temperature"),
        ([{"kd": {}, "wieght": 1}], "names kd and wieght"),
        ([{"weight": 1}], "names no method"),
        (["kd"], "0: 'kd': must be a mapping"),
        ([], "must be a list of methods"),
        ({"kd": {}}, "must be a list of methods"),
        ([{"kd": {}, "weight": -1}], "0.weight: -1: must be >= 0"),
        ([{"kd": {}, "weight": True}], "0.weight: True: is no weight"),
        ([{"kd": {}, "weight": "atuo"}], "0.weight: 'atuo': is no weight"),
        ([{"kd": {}, "weight": {"form": 1}}], "0.weight.form: unknown key; nearest: from"),
        ([{"kd": {}, "weight": {"to": -1}}], "0.weight.to: -1: must be >= 0"),
        ([{"kd": {}, "weight": {"auto": 1}}], "0.weight: Auto(share=1.0): a share of the gradient"),
        ([{"fitnets": {"layers": "aut"}}], "0.fitnets.layers"),
        ([{"no.such.module:Thing": {}}], "the module 'no.such.module' cannot be imported"),
    ],
)
def test_a_wrong_entry_is_named(given: Any, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(given)
    assert words in str(caught.value)
