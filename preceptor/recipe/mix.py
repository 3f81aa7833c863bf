"""A stage's objective as a recipe writes it, and as the value that it is.

    - {ce: {}, weight: 0.1}
    - {kd: {temperature: 4}, weight: auto}

In Python the same is `0.1 * CE() + Auto() * KD(temperature=4)`.
"""

import dataclasses
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter, WithJsonSchema

from preceptor.errors import RecipeError, nearest
from preceptor.objectives.base import Objective, Sum, Weighted
from preceptor.objectives.schedules import Auto, Ramp
from preceptor.recipe.methods import key_of, method, method_names
from preceptor.recipe.problems import Invalid, Problem, invalid
from preceptor.recipe.section import parsed

_RAMP = {"from": "start", "to": "end", "over": "over", "unit": "unit", "shape": "shape"}
_HOW = "Write a number, auto, {auto: 0.3}, or {from: 0, to: 1, over: 0.5}."


def read(given: Any) -> Sum:
    """A recipe's list of methods as one objective; an objective stays what it is.

    Raises:
        Invalid: with every mistake in the list and its path.
    """
    if isinstance(given, Objective):
        return Sum(given.parts())
    if not isinstance(given, list) or not given:
        raise invalid("", "must be a list of methods", "Write - {kd: {temperature: 4}, weight: 1}.")
    members: list[Weighted] = []
    mistakes: list[Problem] = []
    for index, entry in enumerate(given):
        try:
            members.append(_member(entry))
        except Invalid as error:
            mistakes += [problem.below((index,)) for problem in error.mistakes]
    if mistakes:
        raise Invalid(mistakes)
    return Sum(tuple(members))


def written(objective: Objective[Any]) -> list[dict[str, Any]]:
    """An objective as a recipe writes it, with every field."""
    entries: list[dict[str, Any]] = []
    for member in objective.parts():
        fields = TypeAdapter(type(member.part)).dump_python(member.part, mode="json")
        entries.append({key_of(member.part): fields, "weight": _weight_written(member.weight)})
    return entries


def _member(entry: Any) -> Weighted:
    if not isinstance(entry, dict):
        raise invalid(repr(entry), "must be a mapping", "Write {kd: {temperature: 4}, weight: 1}.")
    names = [str(key) for key in entry if key != "weight"]
    if len(names) != 1:
        near = nearest(names[-1], (*method_names(), "weight"), 1) if names else "kd"
        seen = f"names {' and '.join(names) or 'no method'}"
        why = f"{seen}, and each entry is one method and its weight"
        raise invalid("", why, f"Name one method an entry; nearest: {near}.")
    name, mistakes = names[0], []
    try:
        part = _method(name, {} if entry[name] is None else entry[name])
    except Invalid as error:
        mistakes += error.mistakes
        part = None
    try:
        weight = _weight(entry.get("weight", 1.0))
    except Invalid as error:
        mistakes += [problem.below(("weight",)) for problem in error.mistakes]
        weight = 1.0
    if part is None or mistakes:
        raise Invalid(mistakes)
    return Weighted(part, weight)


def _method(name: str, fields: Any) -> Objective[Any]:
    try:
        kind = method(name)
    except RecipeError as error:
        raise invalid("", error.why, error.do, (name,)) from None
    try:
        return parsed(kind, fields)
    except Invalid as error:
        raise Invalid(problem.below((name,)) for problem in error.mistakes) from None


def _weight(given: Any) -> float | Ramp | Auto:
    if given == "auto":
        return Auto()
    if isinstance(given, int | float) and not isinstance(given, bool):
        if given < 0:
            raise invalid(repr(given), "must be >= 0", _HOW)
        return float(given)
    if isinstance(given, dict) and list(given) == ["auto"]:
        return parsed(Auto, {"share": given["auto"]})
    if not isinstance(given, dict):
        raise invalid(repr(given), "is no weight", _HOW)
    unknown = [str(key) for key in given if key not in _RAMP]
    if unknown:
        near = nearest(unknown[0], [*_RAMP, "auto"], 1)
        raise invalid("", f"unknown key; nearest: {near}", _HOW, (unknown[0],))
    try:
        return parsed(Ramp, {_RAMP[key]: value for key, value in given.items()})
    except Invalid as error:
        raise Invalid(_as_written(problem) for problem in error.mistakes) from None


def _as_written(problem: Problem) -> Problem:
    keys = {field: key for key, field in _RAMP.items()}
    return dataclasses.replace(problem, path=tuple(keys.get(str(p), p) for p in problem.path))


def _weight_written(weight: float | Ramp | Auto) -> Any:
    if isinstance(weight, Auto):
        return {"auto": weight.share}
    if isinstance(weight, Ramp):
        fields = dataclasses.asdict(weight)
        return {key: fields[field] for key, field in _RAMP.items()}
    return weight


Mix = Annotated[
    Objective[Any],
    PlainValidator(read),
    PlainSerializer(written),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "description": "one method an entry, by its name, and its weight; see docs/methods.md",
            "items": {"type": "object", "properties": {"weight": {}}, "minProperties": 1},
        }
    ),
]
"""One objective: in Python the value itself, in a recipe a list of methods with weights."""
