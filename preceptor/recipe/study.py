"""The recipe of a study: an ordinary recipe, and a grid of what is changed in it.

recipe: {...}          an ordinary recipe, or the name of one
grid:                  names, each with the keys that it sets
  tasks: {iris: {data.source: iris}, wine: {data.source: wine}}
  students: {tiny: {student.model.arguments.widths: [4]}, small: {...}}
  teachers: {...}
  methods: {...}
choose: {stages.0.objective.1.kd.temperature: [1, 2, 4]}
signals: {alter: {noised: {noise: 2}}, tasks: [iris]}
"""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from preceptor.recipe.alterations import AlterationFields
from preceptor.recipe.problems import invalid
from preceptor.recipe.section import Section

Changes = dict[str, Any]
"""Dotted keys of the recipe, and the values that they get."""

Names = Annotated[dict[str, Changes], Field(min_length=1)]

AXES = ("tasks", "students", "teachers", "methods")
TRUE = "true"
"""The signal that is the teacher's own."""


class Grid(Section):
    """What is crossed with what: on each axis, names with the keys that they set.

    Args:
        tasks: what is learned; the recipe's data alone where not given.
        students: who learns. Their order says nothing: sizes are counted.
        teachers: who teaches.
        methods: how.
    """

    tasks: Names = Field(default_factory=lambda: {"the task": {}})
    students: Names = Field(default_factory=lambda: {"the student": {}})
    teachers: Names = Field(default_factory=lambda: {"the teacher": {}})
    methods: Names = Field(default_factory=lambda: {"the method": {}})

    def axis(self, name: str) -> dict[str, Changes]:
        """One of `AXES`."""
        return getattr(self, name)

    def places(self) -> Iterator[tuple[str, str, str, str]]:
        """Task, student, teacher and method of every place in the grid."""
        yield from itertools.product(self.tasks, self.students, self.teachers, self.methods)

    def changes(self, place: tuple[str, str, str, str]) -> Changes:
        """The keys that a place sets."""
        found: Changes = {}
        for name, chosen in zip(AXES, place, strict=True):
            found |= self.axis(name)[chosen]
        return found


class Signals(Section):
    """Where the teacher's answers are spoilt on purpose, and how.

    Args:
        alter: ways by name.
        tasks: names of the grid's; all where not given. Likewise the others.
        students: likewise.
        teachers: likewise.
        methods: likewise.
    """

    alter: Annotated[dict[str, AlterationFields], Field(min_length=1)]
    tasks: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    def holds(self, place: tuple[str, str, str, str]) -> bool:
        """Whether signals are altered at a place of the grid."""
        asked = (getattr(self, name) for name in AXES)
        return all(not some or own in some for some, own in zip(asked, place, strict=True))


class StudyRecipe(Section):
    """Everything a study is.

    Args:
        name: of the study's folder and report.
        recipe: what every cell is but for its changes: an ordinary recipe.
        grid: the changes.
        choose: keys with values that are tried at every place of the grid. Which is used there is
            chosen on validation, by the mean over seeds; the control chooses among as many where
            the key concerns it too. Altered signals keep what the recipe says.
        signals: ablations of what the teacher says.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "study"
    recipe: dict[str, Any]
    grid: Grid = Grid()
    choose: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    signals: Signals | None = None

    def options(self) -> tuple[Changes, ...]:
        """What is chosen among: every combination of the values; one empty one where none is."""
        keys, values = list(self.choose), self.choose.values()
        each = itertools.product(*values)
        return tuple(dict(zip(keys, chosen, strict=True)) for chosen in each)

    @model_validator(mode="after")
    def _signals_lie_in_the_grid(self) -> "StudyRecipe":
        for axis in AXES if self.signals else ():
            for index, name in enumerate(getattr(self.signals, axis)):
                if name not in self.grid.axis(axis):
                    why = f"the grid's {axis} are {', '.join(self.grid.axis(axis))}"
                    place = ("signals", axis, index)
                    raise invalid(repr(name), why, "Name one of them.", place)
        if self.signals is not None and TRUE in self.signals.alter:
            why = "this is the name of the teacher's own answers"
            raise invalid("", why, "Choose another name.", ("signals", "alter", TRUE))
        return self


def option_words(option: Changes) -> str:
    """A choice in words: the last part of each key with its value.

    >>> option_words({"stages.0.objective.1.kd.temperature": 2})
    'temperature 2'
    """
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in option.items())
