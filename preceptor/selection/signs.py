"""What another draw of the random signs would do to a lead: the numbers of a sketch are themselves
draws, so that half of them, taken at random, differ from all as much as another draw would.

Both candidates' gradients meet the same signs, and much of what those do to one score they do to
the other: a lead moves far less than a score. Of the preset `arithmetic-temperatures` (112 numbers,
four seeds) scores moved by 3 per cent and the leads of neighbours by 0.5 to 0.8; told from one
seed's halves they were 0.3 to 1.0. What the maps of single matrices add before the last one
(`ledger.Sketching`) is not seen; with matrices four times as wide as those maps (32 numbers, eight
seeds) a lead moved by 2.6 per cent, and 2.2 to 4.4 were told.

Dimension key: d numbers a sketch, b draws.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from preceptor.ops.resampling import Interval
from preceptor.selection.features import Features
from preceptor.selection.score import Score

_DRAWS = 24
"""Halves that are drawn: a spread is known to about a seventh."""

_FEWEST = 8
"""Numbers of a sketch that are worth halving."""

_SURE = 2.0
"""A lead that holds by less than so many spreads is told."""


def spread_of_lead(score: Score, first: Features, second: Features, seed: int = 0) -> float:
    """The standard deviation of ln(first's score / second's) over draws of the random signs.

    Args:
        score: one that is above 0.
        first: features of one candidate.
        second: of another, with the same signs and at least two numbers a sketch.
        seed: of the halves.
    """
    generator, d = np.random.default_rng(seed), first.probe.dimension
    halves = [np.sort(generator.permutation(d)[: d // 2]) for _ in range(_DRAWS)]
    ratios = [
        np.log(score.value(_part(first, half)) / score.value(_part(second, half)))
        for half in halves
    ]
    return float(np.std(ratios, ddof=1))


def caution_about_lead(
    score: Score,
    candidates: Mapping[str, Features],
    differences: Mapping[str, Interval],
    values: Mapping[str, float],
) -> str | None:
    """That the best is told from another so barely that other signs may undo it; None where not.

    Args:
        score: by which they are ranked.
        candidates: their features.
        differences: by all others, the best's score less the other's, with its interval.
        values: every candidate's score.
    """
    clear = {name: held for name, held in differences.items() if held.excludes_zero}
    if not clear:
        return None
    margins = {name: min(abs(held.low), abs(held.high)) for name, held in clear.items()}
    near = min(clear, key=lambda name: margins[name])
    best = next(name for name in values if name not in differences)
    first, second = candidates[best], candidates[near]
    if min(values[best], values[near]) <= 0 or first.probe.dimension < _FEWEST:
        return None
    spread = spread_of_lead(score, first, second) * values[best]
    if not 0 < margins[near] < _SURE * spread:
        return None
    lead, d = abs(clear[near].estimate), first.probe.dimension
    return (
        f"{best} is told from {near} barely: its lead of {lead:.4g} is at least "
        f"{margins[near]:.4g} over prompts, and another draw of the random signs moves it by about "
        f"{spread:.3g}. Ask again with features.seed and another folder, or with more numbers than "
        f"{d} (features.dimension), before this decides."
    )


def _part(features: Features, numbers: Int64[np.ndarray, " k"]) -> Features:
    """The same responses in some of the numbers; every score here is scaled alike by that."""
    sketches = np.ascontiguousarray(features.sketches[:, numbers])
    return replace(
        features, sketches=sketches, probe=replace(features.probe, dimension=len(numbers))
    )
