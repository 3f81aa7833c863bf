"""How good each model was on each test item: what another run is paired with.

Two runs may be compared item by item where their test items are the same ones, by their hash, and
seed by seed where their seeds are.

Dimension key: s seeds, n items.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from preceptor.evaluate.report import LESS_IS_BETTER
from preceptor.evaluate.results import RunResult, SeedResult


@dataclass(frozen=True)
class Items:
    """The primary measure of every arm on every test item.

    Args:
        test: a hash of the test items.
        primary: the measure.
        seeds: in the order of the rows.
        arms: by arm; more is better.
        clusters: which items belong together and are drawn whole; none where each stands alone.
    """

    test: str
    primary: str
    seeds: tuple[int, ...]
    arms: Mapping[str, Float[np.ndarray, "s n"]]
    clusters: tuple[str, ...] = ()

    def pairs_with(self, other: "Items") -> str:
        """Why these and other items cannot be paired; empty where they can."""
        if self.test != other.test:
            return "the test items differ"
        if self.primary != other.primary:
            return "the measures differ"
        if self.seeds != other.seeds:
            return "the seeds differ"
        return ""


def items_of(result: RunResult) -> Items:
    """What a run's arms scored on its test items."""
    seeds = tuple(one.seed for one in result.student.seeds)
    arms = {arm.name: np.stack([_good(one, result) for one in arm.seeds]) for arm in result.arms}
    return Items(result.test, result.primary, seeds, arms, result.clusters)


def _good(one: SeedResult, result: RunResult) -> Float[np.ndarray, " n"]:
    if result.primary in one.items:
        column = np.asarray(one.items[result.primary], dtype=np.float64)
        return -column if result.primary in LESS_IS_BETTER else column
    assert one.logits is not None, "a run without a measure for each item was refused before"
    return (one.logits.argmax(axis=-1) == result.labels).astype(np.float64)
