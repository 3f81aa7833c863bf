"""Showing that a student's rows are right by some examples, and which norms are fused by the same.

Float32 itself, and bfloat16 more so, may move a gradient: where an activation is near 0, what is
added in another order switches it. What seems wrong there is looked at again in a copy in float64,
where nothing is that near, and by the bounds of float64.
"""

import torch

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.passes import Passes, doubled
from preceptor.selection.proof import (
    Shown,
    different,
    expect_own,
    expect_seen,
    expect_unmixed,
    unlike,
)

_LARGE = 1 << 27
"""Parameters of which no copy is made: in float64 it would take a gigabyte."""


def prove(run: Passes, some: Batch) -> None:
    """Show that the rows of some examples are right.

    Raises:
        ModelError: they are not.
    """
    alone = [run.shown(some.rows(i, i + 1)) for i in range(len(some))]
    together = None if run.apart.is_whole or len(some) == 1 else run.shown(some)
    try:
        _compare(run, some, alone, together)
    except ModelError:
        if run.dtype == torch.float64 or not _is_proven_wide(run, some):
            raise


def _compare(run: Passes, some: Batch, alone: list[Shown], together: Shown | None) -> None:
    losses = torch.cat([rows.losses for rows, _ in alone])
    expect_unmixed(run.losses(some), losses)
    if together is not None:
        expect_unmixed(together[0].losses, losses)
        expect_own(run.ledger, together, alone)
    exact = ExactSketcher(run.model, soft=run.soft)
    found: list[dict[str, float]] = []
    for i, shown in enumerate(alone):
        with run.asked():
            loss = exact.loss(some.rows(i, i + 1))[0]
            found.append(unlike(run.ledger, run.named, loss, shown))
    expect_seen(run.ledger, found)


def _is_proven_wide(run: Passes, some: Batch) -> bool:
    """Whether the same holds in float64."""
    try:
        twin = _twin(run, some)
        if twin is None:
            return False
        prove(twin, doubled(some))
    except (ModelError, RuntimeError):
        return False
    return True


def _twin(run: Passes, some: Batch) -> Passes | None:
    """A copy in float64; None where it would be run in another way, or is too large."""
    if not run.is_plain or run.ledger.size > _LARGE:
        return None
    twin = run.doubled()
    twin.begin(doubled(some))
    twin.ledger.running = []
    return twin


def fuse(run: Passes, some: Batch) -> None:
    """Have convolutions be one with their norms from here on, where no sketch changes by it."""
    fusions = run.ledger.fusions
    if run.bfloat16 or run.apart.is_whole or not fusions or fusions.is_on:
        return
    try:
        twin = _twin(run, some)
        if twin is not None:
            _fit(twin, doubled(some))
            fusions.follow(twin.ledger.fusions)
            return
    except (ModelError, RuntimeError):
        pass  # Not every model has a copy, or runs in float64.
    _fit(run, some)


def _fit(run: Passes, some: Batch) -> None:
    fusions, plain = run.ledger.fusions, run.shown(some)
    fusions.is_on = True
    while fusions:
        try:
            found = different(run.ledger, plain, run.shown(some))
        except (ModelError, RuntimeError):
            break
        if not found:
            return
        if not fusions.leave(found):
            break
    fusions.is_on = False
