"""A model's logits over a whole data set.

Dimension key: n examples, v classes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from preceptor.errors import DataError
from preceptor.models.dry import keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.types import Batch


@dataclass(frozen=True)
class Predictions:
    """Logits with the labels (-1 where there is none) and ids of the examples, row by row."""

    logits: Float32[np.ndarray, "n v"]
    labels: Int64[np.ndarray, " n"]
    ids: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)


def predict(
    model: TappedModel | Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    device: torch.device | str | None = None,
) -> Predictions:
    """Runs a model over batches once, in eval mode and without gradients.

    Args:
        model: a `TappedModel`, whose modes are afterwards as before, or any function of a batch
            that returns logits [b, v].
        batches: a finite number of them.
        device: where batches are moved; None where a model's own parameters lie, and nowhere for
            a function. The model itself is not moved.

    Returns:
        Arrays in the batches' order. Where batches have no ids, rows are numbered from 0.

    Errors:
        DataError: there was no batch.
    """
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if device is None and first is not None:
        device = first.device
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    seen = 0
    with torch.no_grad(), keeping_modes(model if isinstance(model, nn.Module) else nn.Module()):
        if isinstance(model, nn.Module):
            model.eval()
        for batch in batches:
            given = batch.fields()
            moved = batch if device is None else batch.to(device)
            answer = model(moved.inputs).logits if isinstance(model, TappedModel) else model(moved)
            labels = (
                given["labels"] if given["labels"] is not None else torch.full((len(batch),), -1)
            )
            ids = (
                given["ids"] if given["ids"] is not None else torch.arange(seen, seen + len(batch))
            )
            rows.append((answer.float().cpu(), labels.cpu().long(), ids.cpu().long()))
            seen += len(batch)
    if not rows:
        raise DataError("a model was run over no batch", "there is nothing to predict", "Give one.")
    logits, labels, ids = (torch.cat(column).numpy() for column in zip(*rows, strict=True))
    return Predictions(logits, labels, ids)
