"""Random numbers that are functions of their names: no generator, no state, no order of calls.

Guy L. Steele, Doug Lea, Christine H. Flood. "Fast splittable pseudorandom number generators".
OOPSLA, 2014 (the mixing function of SplitMix64).
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(state: Words) -> Words:
    """The output of SplitMix64 that follows each 64-bit state.

    >>> splitmix64(np.array([1234567], dtype=np.uint64)).item()
    6457827717110365317
    """
    z = state + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def words(*keys: int | NDArray[np.integer]) -> Words:
    """One 64-bit word for each tuple of keys; arrays of keys broadcast, negative ones wrap."""
    mixed = np.zeros(1, dtype=np.uint64)
    for key in keys:
        mixed = splitmix64(mixed ^ _as_words(key))
    return mixed


def below(bound: int, drawn: Words) -> NDArray[np.int64]:
    """Each word as an integer from 0 to bound - 1; bound is at most 2^32."""
    return (((drawn >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


def shuffled(names: NDArray[np.int64], *keys: int) -> NDArray[np.int64]:
    """`names` in an order that depends on the keys and the names alone."""
    ordered = np.sort(names)
    return ordered[np.argsort(words(*keys, ordered), kind="stable")]


def _as_words(key: int | NDArray[np.integer]) -> Words:
    if isinstance(key, int):
        return np.array([key % 2**64], dtype=np.uint64)
    return key.astype(np.uint64)  # a negative key becomes 2^64 minus its size
