"""docs/methods.md, written from the methods themselves.

python -m preceptor.recipe.reference > docs/methods.md
"""

import dataclasses
import inspect
import re
import sys
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from preceptor.fields import range_words
from preceptor.needs import WORDS
from preceptor.objectives.base import Layers, Objective
from preceptor.testing import objective_cases
from preceptor.types import Needs

_HEAD = """\
# Methods

Every method of the package, by the name that a recipe uses. This page is written by
`python -m preceptor.recipe.reference > docs/methods.md`.

In a recipe: `- {kd: {temperature: 4}, weight: 0.9}`. In Python: `0.9 * KD(temperature=4)`; every
class can be imported from `preceptor`. A weight is a number, `auto` (the method gets half of the
gradient), `{auto: 0.3}` (this share of it), or `{from: 0, to: 1, over: 0.5}` (a ramp over half of
the stage; `unit: epochs` counts epochs, `shape: cosine` bends it). A method of your own is named
`package.module:Class`.
"""

_LAYERS = {
    "stages": "every stage's output",
    "middle": "the middle stage's output",
    "last_map": "the last map before pooling",
    "embedding": "the classifier's input, or an encoder's answer",
    "hidden": "transformer blocks' outputs",
    "attention": "attention maps",
    "relations": "one block's queries, keys and values",
    "flow": "the entry and the exit of every stage",
    "table": "where tokens come in",
}


def reference() -> str:
    """The whole page."""
    cases = objective_cases()
    rows = [f"| [`{name}`](#{name}) | {_first_line(case)} |" for name, case in cases.items()]
    index = "\n".join(["| name | what is minimised |", "|---|---|", *rows])
    return "\n".join([_HEAD, index, "", *(section(n, case) for n, case in cases.items())])


def section(name: str, case: Objective[Any]) -> str:
    """One method's part of the page."""
    kind: Any = type(case)
    paper = inspect.getdoc(sys.modules[kind.__module__]) or ""
    paper = re.sub(r"\n\nDimension key:.*", "", paper, flags=re.DOTALL)
    what = (inspect.getdoc(kind) or "").partition("\nArgs:")[0].strip()
    lines = [f"## {name}", "", f"`preceptor.{kind.__name__}`. {_flowing(paper)}", ""]
    lines += ["```text", what, "```", ""]
    fields = dataclasses.fields(kind)
    if fields:
        lines += ["| field | default | values | meaning |", "|---|---|---|---|"]
        lines += [_row(kind, field) for field in fields]
        lines += [""]
    return "\n".join([*lines, f"Reads {_needs(case)}.", ""])


def _row(kind: type[Objective[Any]], field: "dataclasses.Field[Any]") -> str:
    annotation = get_type_hints(kind, include_extras=True)[field.name]
    default = "required" if field.default is dataclasses.MISSING else f"`{_shown(field.default)}`"
    meaning = _meanings(kind).get(field.name, "")
    cells = (f"`{field.name}`", default, _values(annotation), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "null"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _values(annotation: Any) -> str:
    """What a field may be, in words.

    >>> from preceptor.fields import Positive
    >>> _values(Positive), _values(Literal["kl", "mse"]), _values(tuple[int, ...])
    ('number > 0', '`kl` or `mse`', 'list of whole number')
    """
    if annotation == Layers:
        return "`auto` or list of [student's module, teacher's module]"
    if get_origin(annotation) is Annotated:
        return f"{_values(get_args(annotation)[0])} {range_words(annotation)}"
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_values(part) for part in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {_values(get_args(annotation)[0])}"
    if dataclasses.is_dataclass(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        inside = ", ".join(f"{name}: {_values(hint)}" for name, hint in hints.items())
        return "{" + inside + "}"
    words = {float: "number", int: "whole number", bool: "`true` or `false`", str: "text"}
    return "`null`" if annotation is NoneType else words[annotation]


def _meanings(kind: type[Objective[Any]]) -> dict[str, str]:
    """Each field's words in the class docstring's `Args:`."""
    _, _, described = (inspect.getdoc(kind) or "").partition("\nArgs:\n")
    entries = re.split(r"\n(?=    \w[\w, ]*:)", "\n" + described)
    found: dict[str, str] = {}
    for entry in entries:
        names, _, words = entry.strip().partition(":")
        found |= {name.strip(): _flowing(words) for name in names.split(",")}
    return found


def _needs(case: Objective[Any]) -> str:
    needs: Needs = case.needs()
    read = [f"the teacher's {WORDS[kind]}" for kind in sorted(needs.kinds)]
    if case.reads is not None:
        whose = "of both models" if needs.teacher_taps else "of the student"
        read.append(f"layers {whose} (`auto`: {_LAYERS[case.reads]})")
    read += ["the student's classifier"] if needs.student_head else []
    read += ["the teacher's classifier"] if needs.teacher_head else []
    read += ["labels"] if needs.labels else []
    read += ["the examples' ids"] if needs.ids else []
    each = {"position": "image or token", "example": "example", "batch": "batch"}[needs.scope]
    own = "; trains modules of its own beside the student" if case.has_auxiliary() else ""
    return f"{', '.join(read) or 'nothing but the student'}; one number for each {each}{own}"


def _first_line(case: Objective[Any]) -> str:
    line = (inspect.getdoc(type(case)) or "").partition("\n")[0]
    return line.replace("|", "\\|")


def _flowing(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(reference(), end="")
