"""`--set a.b=value`: one key of a recipe changed from outside, against the same schema."""

from collections.abc import Iterable, Mapping
from typing import Any

from preceptor.errors import RecipeError
from preceptor.recipe.problems import dotted
from preceptor.recipe.text import from_yaml, to_yaml


def overridden(data: Any, settings: Iterable[str]) -> Any:
    """A recipe's plain data with settings such as `stages.0.plan.steps=10` applied in order.

    A value is read as YAML. Mappings on the way are made where they are missing; whether the key
    is one that the recipe knows, its schema says afterwards.

    Raises:
        RecipeError: where a setting has no `=`, or its path runs through a value without keys.

    >>> overridden({"seed": {"count": 8}}, ["seed.count=2", "control.longer=3"])
    {'seed': {'count': 2}, 'control': {'longer': 3}}
    """
    changed = _unshared(data)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise RecipeError(
                f"--set {setting}", "it has no key and value", "Write --set seed.count=2."
            )
        keys = path.strip().split(".")
        _put(changed, keys, from_yaml(text, f"--set {setting}"), setting)
    return changed


def with_values(data: Any, values: Mapping[str, Any]) -> Any:
    """The same with values that are plain data already, by dotted key.

    >>> with_values({"seed": {"count": 8}}, {"seed.count": 2})
    {'seed': {'count': 2}}
    """
    changed = _unshared(data)
    for path, value in values.items():
        _put(changed, path.split("."), _unshared(value), f"{path}=...")
    return changed


def _unshared(data: Any) -> Any:
    """A copy in which what one YAML anchor gave to two places is two things."""
    if isinstance(data, dict):
        return {key: _unshared(value) for key, value in data.items()}
    return [_unshared(value) for value in data] if isinstance(data, list) else data


def _put(data: Any, keys: list[str], value: Any, setting: str) -> None:
    here = data
    for depth, key in enumerate(keys[:-1]):
        where = _where(here, key, keys[:depth], setting)
        # `ce:` alone is null in YAML and means a mapping without keys.
        if isinstance(here, dict) and here.get(where) is None:
            here[where] = {}
        here = here[where]
    here[_where(here, keys[-1], keys[:-1], setting)] = value


def _where(here: Any, key: str, passed: list[str], setting: str) -> Any:
    place = dotted(tuple(passed)) or "the recipe"
    if isinstance(here, dict):
        return key
    if not isinstance(here, list):
        shown = to_yaml(here).partition("\n")[0]
        raise RecipeError(
            f"--set {setting}",
            f"{place} is {shown}, which has no key {key!r}",
            f"Set the whole of it: --set '{place}={{...}}'.",
        )
    if not key.isdecimal() or int(key) >= len(here):
        raise RecipeError(
            f"--set {setting}",
            f"{place} is a list of {len(here)}, and {key!r} is none of its numbers",
            f"Use a number from 0 to {len(here) - 1}." if here else "Set the whole list.",
        )
    return int(key)
