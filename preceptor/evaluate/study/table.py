"""A grid's comparisons as arrays: what was chosen at each place, and every measure of it.

Dimension key: t tasks, s students, k teachers, m methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from preceptor.evaluate.study.cells import Compared, by_place
from preceptor.evaluate.study.measures import MEASURES, seed_mean

TRUE = "true"
Place = tuple[str, str, str, str]


@final
@dataclass(frozen=True)
class Table:
    """Every place of the grid, at the option that was chosen there.

    Args:
        tasks, students, teachers, methods: names in order; students by their size.
        places: the comparisons of each place, one a seed.
        options: what was chosen there.
        measures: by place and name, averaged over seeds.
        tried: the comparisons of each place under every option, as they were trained.
    """

    tasks: tuple[str, ...]
    students: tuple[str, ...]
    teachers: tuple[str, ...]
    methods: tuple[str, ...]
    places: Mapping[Place, Sequence[Compared]]
    options: Mapping[Place, str]
    measures: Mapping[Place, Mapping[str, float]]
    tried: Mapping[tuple[Place, str], Sequence[Compared]]

    def array(self, name: str) -> Float[np.ndarray, "t s k m"]:
        """A measure over the whole grid; NaN where a place has no comparison."""
        axes = (self.tasks, self.students, self.teachers, self.methods)
        found = np.full([len(axis) for axis in axes], np.nan)
        for place, measures in self.measures.items():
            index = tuple(axis.index(own) for axis, own in zip(axes, place, strict=True))
            found[index] = measures[name]
        return found

    def of_task(self, task: str) -> list[Sequence[Compared]]:
        """The comparisons of one task, place by place."""
        return [trials for place, trials in self.places.items() if place[0] == task]


def tabulated(trials: Sequence[Compared], options: Sequence[str]) -> Table:
    """Choose at every place, on validation, and measure what was chosen."""
    true = tuple(each for each in trials if each.signal == TRUE and each.whole)
    places: dict[Place, list[Compared]] = {}
    chosen: dict[Place, str] = {}
    for place, tried in by_place(true).items():
        own = [each for each in tried if each.option in options]
        if own:
            chosen[place], places[place] = _chosen(own)
    measures = {place: seed_mean(each) for place, each in places.items()}
    tried_at: dict[tuple[Place, str], list[Compared]] = {}
    for each in true:
        tried_at.setdefault((each.place, each.option), []).append(each)
    tasks, unsorted, teachers, methods = (
        tuple(dict.fromkeys(place[axis] for place in places)) for axis in range(4)
    )
    sizes = {
        student: np.mean([m["parameters"] for p, m in measures.items() if p[1] == student])
        for student in unsorted
    }
    students = tuple(sorted(unsorted, key=lambda name: sizes[name]))
    return Table(tasks, students, teachers, methods, places, chosen, measures, tried_at)


def _chosen(tried: Sequence[Compared]) -> tuple[str, list[Compared]]:
    """The option with the best mean validation accuracy of the student, with its comparisons.

    The control chooses for itself among its own runs; the first of equals is taken. Seeds that an
    option lacks are left out of the choice.
    """
    taught = _best({each.option: [] for each in tried}, tried, taught=True)
    control = _best({each.option: [] for each in tried}, tried, taught=False)
    beside = {each.seed: each.control for each in tried if each.option == control}
    return taught, [
        replace(each, control=beside.get(each.seed, each.control))
        for each in tried
        if each.option == taught
    ]


def _best(found: dict[str, list[float]], tried: Sequence[Compared], *, taught: bool) -> str:
    seeds = [{e.seed for e in tried if e.option == option} for option in found]
    shared = set.intersection(*seeds) or set.union(*seeds)
    for each in tried:
        if each.seed in shared:
            model = each.taught if taught else each.control
            found[each.option].append(model.validation)
    return max(found, key=lambda option: np.mean(found[option]) if found[option] else -1.0)


def known(name: str) -> str:
    """A measure's words."""
    return MEASURES[name]
