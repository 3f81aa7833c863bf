"""Which prompts are held out from a second moment and scored against it.

All responses of a prompt stay on one side, and all candidates have the same splits.

Dimension key: s splits, p prompts.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from preceptor.errors import DataError

HeldOut = Bool[np.ndarray, "s p"]
"""True where a split holds a prompt out; the rest is what it is scored against"""

RELEASED_SPLITS = 10


def folds(prompts: Int64[np.ndarray, " p"], count: int, seed: int = 0) -> HeldOut:
    """Disjoint folds whose sizes differ by one at most.

    Prompts are ordered by a hash of their number and the seed, then cut: the same on every
    machine, and free of the order in which data is sorted.

    Raises:
        DataError: there are fewer prompts than folds, or fewer than two folds.
    """
    if not 2 <= count <= len(prompts):
        raise DataError(
            f"{len(prompts)} prompts were to be cut into {count} folds",
            "each fold holds out at least one prompt, and one is left to score it against",
            "Give more prompts, or choose between 2 folds and as many as there are prompts.",
        )
    held_out = np.zeros((count, len(prompts)), dtype=bool)
    for number, members in enumerate(np.array_split(shuffled(prompts, seed), count)):
        held_out[number, members] = True
    return held_out


def shuffled(prompts: Int64[np.ndarray, " p"], seed: int = 0) -> Int64[np.ndarray, " p"]:
    """Places of prompts in an order that their numbers and the seed alone decide."""
    return np.argsort(_mixed(prompts, seed), kind="stable").astype(np.int64)


def released_splits(count: int) -> HeldOut:
    """The ten random 90/10 splits of the released code, by place in the ascending prompts.

    Split s permutes all places with numpy's `default_rng(s)` and holds the last int(0.1 p) out, at
    least one.

    Raises:
        DataError: there is one prompt alone.
    """
    if count < 2:
        raise DataError(
            f"{count} prompt was to be split",
            "one is held out and another must be left to score it against",
            "Give at least two prompts, better some hundreds.",
        )
    held_out = np.zeros((RELEASED_SPLITS, count), dtype=bool)
    for seed, split in enumerate(held_out):
        split[np.random.default_rng(seed).permutation(count)[-max(1, int(0.1 * count)) :]] = True
    return held_out


def _mixed(numbers: Int64[np.ndarray, " p"], seed: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Steele, Lea and Flood's (2014) mixer of 64 bits, `splitmix64`."""
    offset = (seed + 1) * 0x9E3779B97F4A7C15 % 2**64
    mixed = numbers.astype(np.uint64) + np.array([offset], dtype=np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
