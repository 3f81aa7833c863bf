"""The shape of report.json and of comparison.json in words that other programs read: JSON Schema,
draft 2020-12.

`python -m preceptor.evaluate.json_schema report` and `... comparison` print them;
`docs/report.schema.json` and `docs/comparison.schema.json` are what was printed.
"""

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from preceptor.evaluate import compare
from preceptor.evaluate.report import SCHEMA, Report

_PLAIN = {float: "number", int: "integer", str: "string", bool: "boolean", type(None): "null"}


def report_schema() -> dict[str, Any]:
    """The schema of a report."""
    return schema_of(Report, SCHEMA, "A finished run of Preceptor")


def comparison_schema() -> dict[str, Any]:
    """The schema of finished runs side by side."""
    return schema_of(compare.Comparison, compare.SCHEMA, "Finished runs of Preceptor side by side")


def schema_of(kind: type, version: str, title: str) -> dict[str, Any]:
    """The schema of a dataclass with a field `schema`, every part under `$defs`.

    Args:
        kind: the dataclass.
        version: what its field `schema` says.
        title: what it is.
    """
    parts: dict[str, Any] = {}
    whole = _schema(kind, parts)
    parts[kind.__name__]["properties"]["schema"] = {"const": version}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": version,
        "title": title,
        **whole,
        "$defs": dict(sorted(parts.items())),
    }


def _schema(kind: Any, parts: dict[str, Any]) -> dict[str, Any]:
    """What JSON of a Python type looks like; dataclasses are added to `parts`."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        _describe(kind, parts)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is tuple:
        return {"type": "array", "items": _schema(inner[0], parts)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(inner[1], parts)}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_schema(each, parts) for each in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    return {"type": _PLAIN[kind]}


def _describe(kind: type, parts: dict[str, Any]) -> None:
    if kind.__name__ in parts:
        return
    parts[kind.__name__] = {}
    hints = get_type_hints(kind)
    parts[kind.__name__] = {
        "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
        "type": "object",
        "properties": {name: _schema(hint, parts) for name, hint in hints.items()},
        "required": list(hints),
        "additionalProperties": False,
    }


if __name__ == "__main__":
    schemas = {"report": report_schema, "comparison": comparison_schema}
    print(json.dumps(schemas[sys.argv[1]](), indent=1))
