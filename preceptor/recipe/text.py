"""YAML as a recipe is written in it: plain data only, numbers as anyone reads them, no key twice.

PyYAML reads YAML 1.1, where `1e-3` is a text and `no` is false. Here the scalars are those of
YAML 1.2's core schema.
"""

import math
import re
from typing import Any

import yaml

from preceptor.errors import RecipeError

_SCALARS = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN\0"),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("int", re.compile(r"^[-+]?[0-9]+$"), "-+0123456789"),
    (
        "float",
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        "-+.0123456789",
    ),
    ("merge", re.compile(r"^<<$"), "<"),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's own way of being told)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        """Everything in full: a resolved recipe has no anchors."""
        del data
        return True


for _name, _pattern, _first in _SCALARS:
    for _kind in (_Loader, _Dumper):
        _firsts = ["" if letter == "\0" else letter for letter in _first]
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _firsts)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    value = float(text if text.lower()[-3:] not in ("inf", "nan") else "nan")
    if not math.isfinite(value):
        raise yaml.constructor.ConstructorError(
            None, None, f"{text} is not a finite number", node.start_mark
        )
    return value


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be text", key.start_mark
            )
        if key.value in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key.value!r} stands here twice", key.start_mark
            )
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {
        str(key.value): loader.construct_object(value, deep=True)  # type: ignore[no-untyped-call]
        for key, value in node.value
    }


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def from_yaml(text: str, name: str) -> Any:
    """The plain data in a YAML text; `name` is what an error calls it.

    Raises:
        RecipeError: where the text is no YAML, a key stands twice, or a number is not finite.

    >>> from_yaml("{lr: 1e-3, name: no}", "example")
    {'lr': 0.001, 'name': 'no'}
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
        why = f"{error.problem or 'this is no YAML'}"
        raise RecipeError(place, why, "Correct the text there.") from None
    except yaml.YAMLError as error:
        raise RecipeError(name, f"this is no YAML ({error})", "Correct the text.") from None
    except RecursionError:
        raise RecipeError(name, "an anchor contains itself", "Write it out.") from None


def to_yaml(data: Any) -> str:
    """Plain data as YAML that `from_yaml` reads back the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
