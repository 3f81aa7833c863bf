"""YAML, as recipes are written in it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import RecipeError
from preceptor.recipe.text import from_yaml, to_yaml

TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=8)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert from_yaml(to_yaml(value), "x") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5e+2", 150.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("012", 12),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2001-01-01", "2001-01-01"),
        ("1_000", "1_000"),
        ("", None),
        ("~", None),
        ("null", None),
        ("'1e-3'", "1e-3"),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    read = from_yaml(text, "x")
    assert read == value
    assert type(read) is type(value)


def test_anchors_and_merges_work() -> None:
    text = "base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\nsame: *b"
    assert from_yaml(text, "f") == {
        "base": {"x": 1, "y": 2},
        "other": {"x": 1, "y": 3},
        "same": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml, line 3, column 1: the key 'a' stands here twice"),
        ("a: {b: 1, b: 2}", "the key 'b' stands here twice"),
        ("a: [1\nb: 2", "f.yaml, line 2"),
        ("a: .nan", ".nan is not a finite number"),
        ("a: -.inf", "-.inf is not a finite number"),
        ("a: 1e999", "1e999 is not a finite number"),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4"),
        ("a: &a [*a]", "recursive"),
        ("[1]: 2", "a key must be text"),
        ("a: \x00", "this is no YAML"),
    ],
)
def test_broken_text_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        from_yaml(text, "f.yaml")
    assert words in str(caught.value)
