"""Which convolutions are taken with the norms behind them: those whose sketches stay the same."""

from collections.abc import Callable

from torch import Tensor

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.selection.ledger import Ledger
from preceptor.selection.proof import Shown, different
from preceptor.types import map_tensors


def fit(ledger: Ledger, shown: Callable[[], Shown]) -> None:
    """Have convolutions be one with their norms from here on, where no sketch changes by it.

    Args:
        ledger: of what is run.
        shown: runs some examples.
    """
    fusions, plain = ledger.fusions, shown()
    fusions.is_on = True
    while fusions:
        try:
            found = different(ledger, plain, shown())
        except (ModelError, RuntimeError):
            break
        if not found:
            return
        if not fusions.leave(found):
            break
    fusions.is_on = False


def doubled(batch: Batch) -> Batch:
    """What a model of float64 reads."""
    fields = batch.fields().items()
    return Batch(**{name: map_tensors(value, _wide) for name, value in fields})


def _wide(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x
