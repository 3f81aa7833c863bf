"""Whether embeddings find alike what people called alike: cosines beside the grades of pairs.

Spearman's correlation is what the STS benchmark reports: Daniel Cer et al., "SemEval-2017 Task 1:
Semantic Textual Similarity", SemEval 2017.

Dimension key: s seeds, m pairs.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from preceptor.evaluate.measures import unit_of
from preceptor.evaluate.report import Measured, Undefined
from preceptor.evaluate.results import ArmResult
from preceptor.evaluate.significance import gap_of_columns, means
from preceptor.ops import linearised
from preceptor.ops.resampling import Crossed


def graded_measures(
    arm: ArmResult,
    control: ArmResult | None,
    teacher: ArmResult | None,
    grades: Float[np.ndarray, " m"],
    crossed: Crossed,
) -> dict[str, Measured]:
    """graded_spearman and graded_pearson, graded_gained over a control, graded_teacher beside one.

    Nothing where the arm was not asked; `crossed` draws seeds and pairs.
    """
    own = cosines_of(arm)
    if own is None:
        return {}
    ranks = _columns(own, grades, linearised.rank_correlation)
    columns = {
        "graded_spearman": ranks,
        "graded_pearson": _columns(own, grades, linearised.correlation),
    }
    master = cosines_of(teacher) if teacher is not None and teacher is not arm else None
    if master is not None:
        others = np.broadcast_to(master, own.shape)
        columns["graded_teacher"] = _columns(own, others, linearised.rank_correlation)
    known = {name: column for name, column in columns.items() if not np.isnan(column).any()}
    found: dict[str, Measured] = {}
    if known:
        found |= means(known, {name: unit_of(name) for name in known}, crossed)
    for name in columns:
        found.setdefault(name, Undefined("all similarities are one"))
    other = cosines_of(control) if control is not None and control is not arm else None
    if other is not None and "graded_spearman" in known:
        beside = _columns(other, grades, linearised.rank_correlation)
        if not np.isnan(beside).any():
            unit = unit_of("graded_gained")
            found["graded_gained"] = gap_of_columns(ranks, beside, crossed, unit)
    return found


def cosines_of(arm: ArmResult) -> Float[np.ndarray, "s m"] | None:
    """How alike an arm's models find each pair; None where they were not asked."""
    each = [one.graded for one in arm.seeds if one.graded is not None]
    return np.stack(each) if len(each) == len(arm.seeds) else None


def _columns(
    own: Float[np.ndarray, "s m"],
    other: Float[np.ndarray, "*#s m"],
    of: Callable[..., Float[np.ndarray, " m"]],
) -> Float[np.ndarray, "s m"]:
    rows = np.broadcast_to(other, own.shape)
    return np.stack([of(a, b) for a, b in zip(own, rows, strict=True)])
