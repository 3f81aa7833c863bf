"""Students of several runs, paired item by item and seed by seed where their runs share both.

Runs fall into groups by their test items, their measure and their seeds; in each group every
student is held against the first run's.

Dimension key: s seeds, n items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from preceptor.evaluate.items import Items
from preceptor.evaluate.report import Difference
from preceptor.evaluate.significance import difference
from preceptor.ops.hypotheses import holm
from preceptor.ops.resampling import Crossed

_SEED = 0
_NO_ITEMS = "hold no scores of single items (run `preceptor evaluate` on each)"
_NEAREST = ("the seeds differ", "the measures differ", "the test items differ")
"""What may keep two runs apart, the least first."""


class Pairing(NamedTuple):
    """Differences within each group, and sentences about groups and about runs without one."""

    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def paired(students: Mapping[str, str], items: Mapping[str, Items | None]) -> Pairing:
    """Pair the students of runs, by label; p is adjusted for all pairs of all groups.

    Args:
        students: by run, the arm that is its student.
        items: of each run; None where it has none.
    """
    groups: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for label in students:
        if (own := items.get(label)) is not None:
            groups.setdefault((own.test, own.primary, own.seeds), []).append(label)
    several = [group for group in groups.values() if len(group) > 1]
    found = [each for group in several for each in _within(group, students, items)]
    adjusted = holm(np.array([each.p.estimate for each in found])) if found else ()
    alone = [group[0] for group in groups.values() if len(group) == 1]
    bare = [label for label in students if items.get(label) is None]
    notes = [*_of_groups(several), *_alone(alone, items)]
    if bare and len(students) > 1:
        notes.append(f"Not paired, for they {_NO_ITEMS}: {', '.join(bare)}.")
    return Pairing(
        tuple(
            replace(each, p_holm=replace(each.p, estimate=float(p)))
            for each, p in zip(found, adjusted, strict=True)
        ),
        tuple(notes),
    )


def _within(
    group: Sequence[str], students: Mapping[str, str], items: Mapping[str, Items | None]
) -> list[Difference]:
    """Each run's student against the first one's; seeds and items are drawn once for all."""
    own = [(label, each) for label in group if (each := items.get(label)) is not None]
    (first, base), others = own[0], own[1:]
    versus = base.arms[students[first]]
    names = next((each.clusters for _, each in own if each.clusters), ())
    clusters = np.array(names) if names else None
    seeds, count = versus.shape
    crossed = Crossed(seeds, count, np.random.default_rng(_SEED), clusters=clusters)
    against = first, _kept(versus, base.primary)
    return [
        difference(
            (label, _kept(each.arms[students[label]], base.primary)),
            against,
            None,
            crossed,
            np.random.default_rng(_SEED),
            base.primary,
        )
        for label, each in others
    ]


def _kept(good: Float[np.ndarray, "s n"], primary: str) -> np.ndarray:
    """Hits as truth values, for McNemar's test."""
    return good.astype(bool) if primary == "accuracy" else good


def _of_groups(several: Sequence[Sequence[str]]) -> list[str]:
    if len(several) < 2:
        return []
    each = "; ".join(f"{len(group)} with {group[0]}" for group in several)
    return [
        f"{len(several)} groups of runs share test items and seeds ({each}): each run is paired "
        "with the first of its group."
    ]


def _alone(labels: Sequence[str], items: Mapping[str, Items | None]) -> list[str]:
    """Why runs are in no group: what keeps each from the run that is nearest to it."""
    held = {label: each for label, each in items.items() if each is not None}
    why: dict[str, list[str]] = {}
    for label in labels:
        reasons = [held[label].pairs_with(each) for other, each in held.items() if other != label]
        if reasons:
            why.setdefault(min(reasons, key=_NEAREST.index), []).append(label)
    return [f"Not paired with any run, for {each}: {', '.join(of)}." for each, of in why.items()]
