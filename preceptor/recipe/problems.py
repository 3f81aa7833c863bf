"""Mistakes in a recipe, in words: the path, what stands there, what may stand there."""

import dataclasses
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Tag, ValidationError

from preceptor.errors import RecipeError, nearest

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake: where it stands, what was seen there, why it cannot be, what to do."""

    path: Path
    seen: str
    why: str
    do: str

    def below(self, path: Path) -> "Problem":
        """The same mistake, further down."""
        return dataclasses.replace(self, path=(*path, *self.path))

    @property
    def place(self) -> str:
        """The path, dotted, with what stands there."""
        return ": ".join(filter(None, (dotted(self.path), self.seen)))


class Invalid(ValueError):
    """Several mistakes at once, on their way up to the recipe's root."""

    def __init__(self, mistakes: Iterable[Problem]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("; ".join(f"{m.place}: {m.why}" for m in self.mistakes))


def invalid(seen: str, why: str, do: str, path: Path = ()) -> Invalid:
    """One mistake, ready to be raised inside a validator."""
    return Invalid((Problem(path, seen, why, do),))


def dotted(path: Path) -> str:
    """A path as it is written after `--set`.

    >>> dotted(("stages", 0, "plan"))
    'stages.0.plan'
    """
    return ".".join(str(part) for part in path)


def recipe_error(mistakes: Sequence[Problem], name: str) -> RecipeError:
    """All mistakes as one error."""
    if len(mistakes) == 1:
        only = mistakes[0]
        return RecipeError(only.place or name, only.why, only.do)
    lines = "".join(f"\n  {m.place}: {m.why}. {m.do}" for m in mistakes)
    return RecipeError(
        f"{name} has {len(mistakes)} mistakes",
        f"each of these cannot be{lines}\n",
        "Correct them all; nothing was run.",
    )


def problems(error: ValidationError, kind: Any) -> tuple[Problem, ...]:
    """A validation error of `kind` in words; answers of one path's alternatives become one."""
    found: dict[Path, list[Problem]] = {}
    for line in error.errors(include_url=False):
        path, container = _walk(kind, line["loc"], line["type"] in _NAMES_KEY)
        for problem in _worded(line, path, container):
            found.setdefault(problem.path, []).append(problem)
    return tuple(_merged(same) for same in found.values())


def _merged(same: list[Problem]) -> Problem:
    reasons = list(dict.fromkeys(problem.why for problem in same))
    joined = " or ".join([reasons[0], *(r.removeprefix("must be ") for r in reasons[1:])])
    return dataclasses.replace(same[0], why=joined)


_TYPES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "none_required": "must be null",
}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument")
_NAMES_KEY = _UNKNOWN + _MISSING
_BOUNDS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


def _worded(line: Any, path: Path, container: Any) -> tuple[Problem, ...]:
    kind, context, given = line["type"], line.get("ctx", {}), line.get("input")
    seen = f"{given!r}" if isinstance(given, str | int | float | bool) or given is None else ""
    name = str(path[-1]) if path else ""
    if kind == "value_error" and isinstance(context.get("error"), Invalid):
        return tuple(problem.below(path) for problem in context["error"].mistakes)
    if kind in _UNKNOWN:
        known = keys_of(container)
        do = f"Known here: {', '.join(known)}." if known else "Nothing may stand here."
        return (Problem(path, "", f"unknown key; nearest: {nearest(name, known, 1)}", do),)
    if kind in _MISSING:
        return (Problem(path, "", "this key is required", f"Add `{name}`."),)
    if kind in _BOUNDS:
        bound, sign = _BOUNDS[kind]
        why = f"must be {sign} {context[bound]:g}"
        return (Problem(path, seen, why, "Choose a value in that range."),)
    if kind == "literal_error":
        allowed = [
            part.strip("'") for part in context["expected"].replace(" or ", ", ").split(", ")
        ]
        near = f"; nearest: {nearest(given, allowed, 1)}" if isinstance(given, str) else ""
        why = f"must be {context['expected']}{near}"
        return (Problem(path, seen, why, "Use one of these."),)
    if kind == "which":
        return (_ambiguous(path, given, _tags(_step(container, path[-1]))),)
    if kind in _TYPES:
        unit = kind.startswith("float") and isinstance(given, str) and _has_digit(given)
        why = _TYPES[kind] + (", without a unit" if unit else "")
        return (Problem(path, seen, why, "Change the value."),)
    if kind in ("model_type", "dataclass_type", "model_attributes_type"):
        known = keys_of(_step(container, path[-1]) if path else container)
        why = f"must be a mapping with keys of {', '.join(known)}"
        return (Problem(path, seen, why, "Write it as a mapping."),)
    if kind in ("too_short", "too_long"):
        if kind == "too_short" and len(line["input"]) >= context["min_length"]:
            return ()  # the list is long enough: its members are wrong, and each said so
        sign, bound = (
            ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
        )
        why = f"has {context['actual_length']} entries, {sign} {context[bound]} are needed"
        return (Problem(path, "", why, "Change the list."),)
    return (Problem(path, seen, line["msg"], "Change the value."),)


def _has_digit(text: str) -> bool:
    return any(letter.isdigit() for letter in text)


def _ambiguous(path: Path, given: Any, keys: list[str]) -> Problem:
    choices = ", ".join(keys)
    if not isinstance(given, dict):
        return Problem(path, repr(given), f"must be a mapping with one of {choices}", "Write one.")
    named = [key for key in keys if key in given]
    if named:
        why = f"names {' and '.join(named)}, and exactly one of them can be"
        return Problem(path, "", why, "Keep one and remove the others.")
    asked = ", ".join(map(str, given)) or "nothing"
    near = nearest(next(iter(map(str, given)), ""), keys, 1)
    return Problem(path, f"{{{asked}}}", f"names none of {choices}; nearest: {near}", "Name one.")


def keys_of(kind: Any) -> list[str]:
    """The keys that a mapping of a type may have."""
    found: list[str] = []
    for member in _members(kind):
        if isinstance(member, type) and issubclass(member, BaseModel):
            found += [f.alias or name for name, f in member.model_fields.items()]
        elif isinstance(member, type) and dataclasses.is_dataclass(member):
            found += [field.name for field in dataclasses.fields(member)]
    return list(dict.fromkeys(found))


def _walk(kind: Any, loc: tuple[str | int, ...], names_key: bool) -> tuple[Path, Any]:
    """The user's path within a location, and the type that holds its last part.

    A location also names the alternatives that were tried ("<zoo>", "int"); a user does not.
    `names_key` says that the last part is a key, known or not.
    """
    path: list[str | int] = []
    container: Any = kind
    here: Any = kind
    for depth, part in enumerate(loc):
        if isinstance(part, str) and part.startswith("<"):
            here = _tagged(here, part)
            continue
        last = depth == len(loc) - 1
        is_key = part in keys_of(here) or _is_mapping(here) or (last and names_key)
        if isinstance(part, int) or is_key:
            path.append(part)
            container, here = here, _step(here, part)
    return tuple(path), container


def _is_mapping(kind: Any) -> bool:
    return any(get_origin(member) is dict for member in _members(kind))


def _members(kind: Any) -> list[Any]:
    """The alternatives in a type, without their marks."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for part in get_args(kind) for member in _members(part)]
    return [kind]


def _tagged(kind: Any, tag: str) -> Any:
    """The alternative that carries a tag."""
    if get_origin(kind) is Annotated:
        first, *marks = get_args(kind)
        if any(isinstance(mark, Tag) and mark.tag == tag for mark in marks):
            return first
        return _tagged(first, tag)
    for part in get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ():
        found = _tagged(part, tag)
        if found is not None:
            return found
    return None


def _tags(kind: Any) -> list[str]:
    """The keys of which a mapping names exactly one."""
    if get_origin(kind) is Annotated:
        first, *marks = get_args(kind)
        own = [mark.tag.strip("<>") for mark in marks if isinstance(mark, Tag)]
        return own or _tags(first)
    if get_origin(kind) in (Union, types.UnionType):
        return [tag for part in get_args(kind) for tag in _tags(part)]
    return []


def _step(kind: Any, part: str | int) -> Any:
    """The type one key further down; None where the key is not known."""
    for member in _members(kind):
        if get_origin(member) in (tuple, list):
            return get_args(member)[0]
        if get_origin(member) is dict:
            return get_args(member)[1]
        if not isinstance(member, type):
            continue
        if issubclass(member, BaseModel):
            for name, field in member.model_fields.items():
                if part in (name, field.alias):
                    return _annotation(member, name)
        elif dataclasses.is_dataclass(member):
            return get_type_hints(member, include_extras=True).get(str(part))
    return None


def _annotation(model: type[BaseModel], name: str) -> Any:
    field = model.model_fields[name]
    if not field.metadata and field.discriminator is None:
        return field.annotation
    return Annotated[(field.annotation, *field.metadata)]  # type: ignore[return-value]
