"""Whether each example's sketch is its own gradient's, shown by the first examples there are.

Three things are compared, parameter by parameter: what some examples add to the sum beside each
other; what they add alone; and the sketch of the gradient that autograd makes of a plain pass. So
neither a layer that lays examples out in an unusual way, nor a parameter that is used where nobody
sees it, is passed over.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from preceptor.errors import ModelError, NonFiniteError
from preceptor.selection.entry import Entry
from preceptor.selection.ledger import Ledger
from preceptor.selection.rows import Rows
from preceptor.selection.strange import Strange

SOME = 5
"""Examples that are compared: few tables have a multiple of five rows, to pass for theirs."""
_NEAR = {torch.float64: (1e-6, 1e-8), torch.float32: (1e-2, 1e-4)}
_ROUNDED = (0.2, 1e-2)
"""How far a parameter's part may lie apart: of its own size, and of the whole sketch's."""
_APART, _APART_ROUNDED = {torch.float64: 1e-6}, 0.1
"""How far, of its size, a row of a later batch may: there is no telling parameters apart, and what
rounding switches adds up from the last layer to the first (RegNet of 32 images: 2 %)."""
_LOUD, _LOUD_ROUNDED = 10.0, 2.0
"""How many times as far one between the first and the last may, for rounding may switch a unit."""

Shown = tuple[Rows, Sequence[Tensor]]
"""Rows, and what each parameter added to their sketches."""


def expect_unmixed(losses: Tensor, alone: Tensor) -> None:
    """Raise where an example's loss is another beside others than alone.

    Raises:
        ModelError: it is.
    """
    if not (losses.isfinite().all() and alone.isfinite().all()):
        raise NonFiniteError(
            "an example's loss is no number",
            "the student's own forward pass gives none for it",
            "Look for padding that is longer than a sliding window (another `attn_implementation` "
            "may take it), or for weights that are no numbers.",
        )
    far = float(((losses - alone).abs() / alone.abs().clamp_min(1.0)).max())
    if not far <= 1e-3:
        raise ModelError(
            "an example's loss was taken alone and beside others",
            f"they differ by {far:.2g}: the student mixes examples",
            "Use exact features for this model, which are of each example alone.",
        )


def expect_own(ledger: Ledger, together: Shown, alone: Sequence[Shown]) -> None:
    """Raise where a parameter's gradient is another for an example beside others than alone.

    Raises:
        Strange: it is.
    """
    sizes = [float(rows.sketches.norm()) for rows, _ in alone]
    wrong: list[Entry] = []
    for place, entry in enumerate(ledger.entries):
        ours = [shares[place][0] for _, shares in alone]
        pairs = zip(together[1][place], ours, sizes, strict=True)
        if _is_wrong(entry.parameter.dtype, [_excess(entry, *pair) for pair in pairs]):
            wrong.append(entry)
    if wrong:
        raise Strange(
            f"the gradient of the parameter {wrong[0].name} was taken alone and beside others",
            "an example has another one: which rows are its own cannot be read from the first axis",
            [entry.chain for entry in wrong],
        )


def different(ledger: Ledger, one: Shown, other: Shown) -> list[Entry]:
    """The parameters that add something else for an example."""
    sizes, found = one[0].sketches.norm(dim=1).tolist(), list[Entry]()
    for entry, left, right in zip(ledger.entries, one[1], other[1], strict=True):
        rows = zip(left, right, sizes, strict=True)
        if _is_wrong(entry.parameter.dtype, [_excess(entry, *row) for row in rows]):
            found.append(entry)
    return found


def unlike(
    ledger: Ledger, parameters: Mapping[str, nn.Parameter], loss: Tensor, alone: Shown
) -> dict[str, float]:
    """How far each parameter's sketch is from that of autograd's gradient of an example's loss."""
    rows, shares = alone
    own = {
        entry.name: (entry, share[0]) for entry, share in zip(ledger.entries, shares, strict=True)
    }
    whole = float(rows.sketches.norm())
    found: dict[str, float] = {}
    with _shown(parameters, partial(_look, own, found, whole)):
        loss.backward()
    for name, (entry, share) in own.items():
        found[name] = _excess(entry, share, None, whole)
    return found


def expect_seen(ledger: Ledger, found: Sequence[Mapping[str, float]]) -> None:
    """Raise where a parameter's sketches are not those of autograd's gradients.

    Args:
        ledger: of the parameters.
        found: what `unlike` gave of each example.

    Raises:
        ModelError: they are not.
    """
    missed = [
        entry.name
        for entry in ledger.entries
        if _is_wrong(entry.parameter.dtype, [each[entry.name] for each in found])
    ]
    if missed:
        raise ModelError(
            f"the gradient of the parameter {missed[0]} was taken by its sketch and by autograd",
            f"they differ, of {len(missed)} parameters in all: it is used where that is not seen",
            "Use exact features for this model (kind: exact, projection: counts), or freeze what "
            "cannot be sketched.",
        )


def _look(
    own: dict[str, tuple[Entry, Tensor]],
    unlike: dict[str, float],
    whole: float,
    name: str,
    found: Tensor,
) -> None:
    """Compare one gradient with what its parameter added."""
    entry, share = own.pop(name)
    truth = entry.of(found.to(share.dtype))
    if truth is None:
        unlike[name] = math.inf if found.any() else 0.0
    else:
        unlike[name] = _excess(entry, share, truth, whole)


def _keep(look: Callable[[str, Tensor], None], name: str, parameter: Tensor) -> None:
    if parameter.grad is not None:
        look(name, parameter.grad)
    parameter.grad = None


@contextmanager
def _shown(
    parameters: Mapping[str, nn.Parameter], look: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """In the block every gradient is looked at, and gone before the next one is made."""
    held = {name: parameter.grad for name, parameter in parameters.items()}
    handles = []
    for name, parameter in parameters.items():
        parameter.grad = None
        if parameter.requires_grad:
            seen = partial(_keep, look, name)
            handles.append(parameter.register_post_accumulate_grad_hook(seen))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in parameters.items():
            parameter.grad = held[name]


def are_near(together: Tensor, alone: Tensor, kind: torch.dtype) -> bool:
    """Whether sketches of examples beside others are those of the same ones alone.

    `kind` is that of the products they were made of.
    """
    gaps = (together - alone).norm(dim=1) / alone.norm(dim=1).clamp_min(1e-30)
    return bool((gaps <= _APART.get(kind, _APART_ROUNDED)).all())


def _excess(entry: Entry, one: Tensor, other: Tensor | None, whole: float) -> float:
    """How far parts lie apart, 1 being as far as they may."""
    of_own, of_whole = _NEAR.get(entry.parameter.dtype, _ROUNDED)
    size = 0.0 if other is None else float(other.norm())
    gap, most = float((one if other is None else one - other).norm()), of_own * size
    most += of_whole * whole
    return gap / most if most else (math.inf if gap else 0.0)


def _is_wrong(kind: torch.dtype, found: Sequence[float]) -> bool:
    """Whether the first's or the last's lies too far apart, half of all, or one much too far."""
    loud = _LOUD if kind in _NEAR else _LOUD_ROUNDED
    too_far = sum(not each <= 1.0 for each in found)
    at_ends = not (found[0] <= 1.0 and found[-1] <= 1.0)
    return at_ends or 2 * too_far >= len(found) or any(not each <= loud for each in found)
