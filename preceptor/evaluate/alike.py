"""How alike two models answer, beyond chance: columns for resampling, and limits where few differ.

Dimension key: s seeds, n items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from preceptor.evaluate import fidelity
from preceptor.evaluate.report import Measured, Undefined, Value
from preceptor.evaluate.significance import FEW, gap, means, no_width, valued
from preceptor.ops import linearised
from preceptor.ops.proportions import beyond_chance
from preceptor.ops.resampling import Crossed, Interval

FEWEST_ERRORS = 5
"""Errors, or right answers, below which it is not said whether two models fail on the same items.

Of so few, one more or less decides; W. Cochran asks for as many ("Some methods for strengthening
the common chi-squared tests", Biometrics 1954).
"""

Answers = tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]
"""What a model answered, and whether that is right."""


@dataclass(frozen=True)
class Alike:
    """Where two models do the same, and how often they would by chance."""

    same: Bool[np.ndarray, "s n"]
    chance: Float[np.ndarray, " s"]


def columns_of(own: Answers, master: Answers) -> dict[str, Float[np.ndarray, " n"]]:
    """Agreement, kappa, error consistency and its bound under one seed, as `ops.linearised`."""
    return {
        "agreement": fidelity.same_answer(own[0], master[0]).astype(float),
        "kappa": linearised.kappa(own[0], master[0]),
        "error_consistency": linearised.kappa(own[1], master[1]),
        "error_consistency_bound": linearised.kappa_bound(own[1], master[1]),
    }


def alike(first: Shaped[np.ndarray, "s n"], second: Shaped[np.ndarray, "s n"]) -> Alike:
    """Two models' answers under each seed."""
    by_chance = [_chance(a, b) for a, b in zip(first, second, strict=True)]
    return Alike(first == second, np.array(by_chance))


def _chance(first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " n"]) -> float:
    """How often two models agree by chance that give each answer as often as these.

    >>> _chance(np.array([1, 1, 2, 2]), np.array([1, 1, 1, 2]))
    0.5
    """
    named, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    often = [np.bincount(side, minlength=len(named)) for side in np.split(numbers, 2)]
    return float(often[0] @ often[1]) / len(first) ** 2


def too_few_errors(own: Bool[np.ndarray, "s n"], master: Bool[np.ndarray, "s n"]) -> str:
    """Why nothing is said of errors in common; empty where both err, and are right, often enough.

    >>> too_few_errors(np.ones((1, 30), bool), np.arange(30)[None] > 0)
    'the teacher errs on 1 of 30 items: too few to tell'
    >>> too_few_errors(np.arange(60).reshape(2, 30) == 0, np.arange(60).reshape(2, 30) % 2 > 0)
    'the model is right on 1 of 60 answers: too few to tell'

    Where seeds differ so that a mean seed's count is no whole number, all answers are counted.
    """
    items = own.shape[1]
    for who, right in (("the teacher", master), ("the model", own)):
        errors = float((~right).mean()) * items
        if min(errors, items - errors) < FEWEST_ERRORS:
            what, each = ("errs", ~right) if errors < items / 2 else ("is right", right)
            count, rest = divmod(int(each.sum()), len(right))
            of = f"{each.sum()} of {each.size} answers" if rest else f"{count} of {items} items"
            return f"{who} {what} on {of}: too few to tell"
    return ""


def kappas(
    columns: Mapping[str, Float[np.ndarray, "s n"]], sides: Mapping[str, Alike], crossed: Crossed
) -> dict[str, Measured]:
    """Each kappa with its limits: the bootstrap's, or the agreement's where few items differ.

    A bootstrap of few items that differ is too narrow, and has no width where it meets none. There
    the limits of the agreement, which never lack width, stand as those of kappa.
    """
    found = means(columns, dict.fromkeys(columns, "kappa"), crossed)
    for name, side in sides.items():
        own, rate = found[name], float(side.same.mean())
        few = min(rate, 1 - rate) * side.same.shape[1] < FEW
        if own.low is None or own.high is None or not (few or no_width(own)):
            continue
        same = means({name: side.same.astype(float)}, {name: "fraction"}, crossed)[name]
        assert same.low is not None
        assert same.high is not None
        told = Interval(same.estimate, same.low, same.high)
        _, low, high = beyond_chance(told, float(side.chance.mean()))
        limits = Interval(own.estimate, max(-1.0, min(low, own.estimate)), max(high, own.estimate))
        found[name] = valued(limits, own.n, "kappa")
    return dict[str, Measured](found)


def widest_bound(
    bound: Value, own: Bool[np.ndarray, "s n"], master: Bool[np.ndarray, "s n"], crossed: Crossed
) -> Value:
    """The bound of error consistency of two models whose accuracies are the same on these items.

    On others they need not be: it falls to where the limits of their difference have it.
    """
    gained = gap(own, master, crossed)
    assert gained.low is not None
    assert gained.high is not None
    apart = max(-gained.low, gained.high)
    chance = float(alike(own, master).chance.mean())
    low = beyond_chance(Interval(1.0, 1 - apart, 1.0), chance).low
    return replace(bound, low=max(0.0, min(low, bound.estimate)))


def cohen(
    first: Shaped[np.ndarray, "s n"], second: Shaped[np.ndarray, "s n"], crossed: Crossed
) -> Measured:
    """Cohen's kappa of two models' answers under some seeds."""
    column = np.stack([linearised.kappa(a, b) for a, b in zip(first, second, strict=True)])
    if np.isnan(column).any():
        return Undefined("both give one class throughout")
    return kappas({"kappa": column}, {"kappa": alike(first, second)}, crossed)["kappa"]
