"""What passed from the teacher: rights kept, errors copied, and what changed beside the control.

A student may agree with its teacher because both are good. What it has of the teacher itself shows
where the teacher errs, and beside a control that never met it: Ngai Lam Ho et al. found errors to
pass more readily than rights ("A functional perspective on knowledge distillation", 2025,
arXiv:2510.12615).

Dimension key: s seeds, n items.
"""

import numpy as np
from jaxtyping import Bool, Float

from preceptor.evaluate.measures import unit_of
from preceptor.evaluate.report import Measured, Undefined, Value
from preceptor.evaluate.scores import Answered
from preceptor.evaluate.significance import (
    at_least_apart,
    gap_of_columns,
    no_width,
    share_column,
    share_where,
)
from preceptor.ops.resampling import Crossed

_NO_ERROR = "the teacher makes no error on these items"


def transfer(
    own: Answered, teacher: Answered, control: Answered | None, crossed: Crossed
) -> dict[str, Measured]:
    """Measures of the group "What passed from the teacher", named as there.

    retention and correction are P(right | teacher right) and P(right | teacher wrong),
    agreement_on_errors is P(same answer | teacher wrong), copied_errors the same where the model
    errs too. asymmetry is the model's copied_errors less the control's, less the same difference of
    retention: above 0 where errors pass more readily than rights. Flips are the items that are
    right under one of model and control alone.
    """
    right, same = _broadcast(teacher, own), own.predicted == teacher.predicted
    both_err = ~right & ~own.hit
    found: dict[str, Measured] = {
        "retention": share_where(own.hit, right, crossed, "the teacher is never right"),
        "correction": share_where(own.hit, ~right, crossed, _NO_ERROR),
        "agreement_on_errors": share_where(same, ~right, crossed, _NO_ERROR),
        "copied_errors": share_where(same, both_err, crossed, "the two never err together"),
    }
    return found | (_beside(own, teacher, control, crossed) if control is not None else {})


def _beside(
    own: Answered, teacher: Answered, control: Answered, crossed: Crossed
) -> dict[str, Measured]:
    everywhere = np.ones_like(own.hit)
    won, lost = own.hit & ~control.hit, control.hit & ~own.hit
    found = {
        "flips_won": share_where(won, everywhere, crossed, ""),
        "flips_lost": share_where(lost, everywhere, crossed, ""),
    }
    columns = [_copied_less_kept(each, teacher) for each in (own, control)]
    if columns[0] is None or columns[1] is None:
        why = Undefined("teacher and model never err together, or the teacher is never right")
        return {"asymmetry": why, **found}
    apart = gap_of_columns(columns[0], columns[1], crossed, unit_of("asymmetry"))
    if no_width(apart):
        apart = at_least_apart(apart, *_copied_and_kept_apart((own, control), teacher, crossed))
    return {"asymmetry": apart, **found}


def _copied_and_kept_apart(
    both: tuple[Answered, Answered], teacher: Answered, crossed: Crossed
) -> tuple[Value, Value]:
    """How much more a model copies and keeps than its control, from the limits of each rate."""
    shares: list[list[Value]] = [[], []]
    for each in both:
        right = _broadcast(teacher, each)
        same = each.predicted == teacher.predicted
        for kind, (what, where) in zip(
            shares, ((same, ~right & ~each.hit), (each.hit, right)), strict=True
        ):
            share = share_where(what, where, crossed, "")
            assert isinstance(share, Value)
            kind.append(share)
    copied, kept = (
        at_least_apart(Value(a.estimate - b.estimate, None, None, a.n, "difference"), a, b)
        for a, b in shares
    )
    return copied, kept


def _copied_less_kept(own: Answered, teacher: Answered) -> Float[np.ndarray, "s n"] | None:
    right = _broadcast(teacher, own)
    copied = share_column(own.predicted == teacher.predicted, ~right & ~own.hit)
    kept = share_column(own.hit, right)
    return None if copied is None or kept is None else copied - kept


def _broadcast(teacher: Answered, own: Answered) -> Bool[np.ndarray, "s n"]:
    """Where the teacher, who may be one for all seeds, is right."""
    return np.broadcast_to(teacher.hit, own.hit.shape)
