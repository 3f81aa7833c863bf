"""Whether each example's sketch is its own gradient's, shown by the first examples there are.

Three things are compared, parameter by parameter: what some examples add to the sum beside each
other; what they add alone; and the sketch of the gradient that autograd makes of a plain pass. So
neither a layer that lays examples out in an unusual way, nor a parameter that is used where nobody
sees it, is passed over.
"""

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
_APART, _APART_ROUNDED = 1e-2, 0.5
"""How far, of its size, a row may move when others stand beside it: in bfloat16 tokens may go to
other experts."""
_NEAR = {torch.float64: (1e-6, 1e-8), torch.float32: (1e-2, 1e-4)}
_ROUNDED = (0.2, 1e-2)
"""How far a parameter's part may lie apart: of its own size, and of the whole sketch's."""

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
    if not far <= (5e-2 if losses.dtype in (torch.float16, torch.bfloat16) else 1e-3):
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
    wrong: dict[str, Entry] = {}
    for example, (rows, shares) in enumerate(alone):
        whole = float(rows.sketches.norm())
        for entry, ours, theirs in zip(ledger.entries, shares, together[1], strict=True):
            if _is_far(entry, theirs[example], ours[0], whole):
                wrong[entry.name] = entry
    if wrong:
        raise Strange(
            f"the gradient of the parameter {next(iter(wrong))} was taken alone and beside others",
            "an example has another one: which rows are its own cannot be read from the first axis",
            [entry.chain for entry in wrong.values()],
        )


def are_same(ledger: Ledger, one: Shown, other: Shown) -> bool:
    """Whether every parameter adds the same for every example."""
    whole = float(one[0].sketches.norm())
    parts = zip(ledger.entries, one[1], other[1], strict=True)
    return not any(_is_far(entry, left, right, whole) for entry, left, right in parts)


def expect_seen(
    ledger: Ledger, parameters: Mapping[str, nn.Parameter], loss: Tensor, alone: Shown
) -> None:
    """Raise where a parameter's sketch is not that of autograd's gradient of an example's loss.

    Raises:
        ModelError: it is not.
    """
    rows, shares = alone
    own = {
        entry.name: (entry, share[0]) for entry, share in zip(ledger.entries, shares, strict=True)
    }
    whole = float(rows.sketches.norm())
    missed: list[str] = []
    with _shown(parameters, partial(_look, own, missed, whole)):
        loss.backward()
    missed += [name for name, (entry, share) in own.items() if _is_far(entry, share, None, whole)]
    if missed:
        raise ModelError(
            f"the gradient of the parameter {missed[0]} was taken by its sketch and by autograd",
            f"they differ, of {len(missed)} parameters in all: it is used where that is not seen",
            "Use exact features for this model (kind: exact, projection: counts), or freeze what "
            "cannot be sketched.",
        )


def _look(
    own: dict[str, tuple[Entry, Tensor]], missed: list[str], whole: float, name: str, found: Tensor
) -> None:
    """Compare one gradient with what its parameter added."""
    entry, share = own.pop(name)
    truth = entry.of(found.to(share.dtype))
    if truth is None:
        missed += [name] if found.any() else []
    elif _is_far(entry, share, truth, whole):
        missed.append(name)


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


def are_near(together: Tensor, alone: Tensor, *, rounded: bool) -> bool:
    """Whether sketches of examples beside others are those of the same ones alone."""
    gaps = (together - alone).norm(dim=1) / alone.norm(dim=1).clamp_min(1e-30)
    return bool((gaps <= (_APART_ROUNDED if rounded else _APART)).all())


def _is_far(entry: Entry, one: Tensor, other: Tensor | None, whole: float) -> bool:
    of_own, of_whole = _NEAR.get(entry.parameter.dtype, _ROUNDED)
    size = 0.0 if other is None else float(other.norm())
    gap = float((one if other is None else one - other).norm())
    return not gap <= of_own * size + of_whole * whole
