"""Two batches of text as one: rollouts, and rows of data beside them.

Dimension key: b examples, t tokens.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from preceptor.errors import DataError
from preceptor.types import Batch

DATA_WRITTEN = "data_written"
"""The mask of positions whose response stands in the data."""
_EMPTY = {"labels": -1, "row": -1, "offset": -1, "teacher_positions": -1}


def with_data_mask(batch: Batch) -> Batch:
    """The batch with a mask of what nobody wrote in this run."""
    data = batch.mask("all") & ~batch.mask("student_written") & ~batch.mask("teacher_written")
    return Batch(**{**batch.fields(), "masks": {**batch.masks, DATA_WRITTEN: data}})


def beside(first: Batch, second: Batch, *, offset: int) -> Batch:
    """The rows of both, the second's after the first's, padded to the longer.

    Args:
        first, second: unpacked batches with the same masks. What one alone has in `extra` is 0 in
            the other's rows.
        offset: added to the numbers of the second's rows, which are of another set.
    """
    one, two = first.fields(), second.fields()
    if one["teacher_inputs"] is not None or two["teacher_inputs"] is not None:
        one |= _seen(first)
        two |= _seen(second)
    two["ids"] = two["ids"] + offset
    row = two["extra"]["row"]
    two["extra"] = {**two["extra"], "row": torch.where(row >= 0, row + offset, row)}
    names = dict.fromkeys([*one["extra"], *two["extra"]])
    extra = {name: _stacked(name, _or_zeros(one, name), _or_zeros(two, name)) for name in names}
    masks = {n: _stacked(n, mask, two["masks"][n]) for n, mask in one["masks"].items()}
    said = {
        name: None if one[name] is None else _stacked(name, one[name], two[name])
        for name in ("labels", "mask", "ids", "teacher_positions")
    }
    return Batch(
        _inputs(one["inputs"], two["inputs"]),
        **said,
        teacher_inputs=None
        if one["teacher_inputs"] is None
        else _inputs(one["teacher_inputs"], two["teacher_inputs"]),
        origin=first.origin,
        masks=masks,
        extra=extra,
    )


def _seen(batch: Batch) -> dict[str, Any]:
    """What the teacher sees, said where it sees the same."""
    if batch.teacher_inputs is not batch.inputs:
        return {}
    places = torch.arange(batch.labels.shape[1]).expand_as(batch.labels)
    places = torch.where(batch.mask("all"), places, -1)
    return {"teacher_inputs": batch.inputs, "teacher_positions": places}


def _inputs(first: Any, second: Any) -> dict[str, Tensor]:
    names = {"input_ids", "attention_mask"}
    for each in (first, second):
        if not isinstance(each, Mapping) or set(each) != names:
            raise DataError(
                "a packed batch is to stand beside rollouts",
                "their rows hold one example each",
                "Leave `pack` out for this source.",
            )
    return {name: _stacked(name, first[name], second[name]) for name in sorted(names)}


def _or_zeros(fields: Mapping[str, Any], name: str) -> Tensor:
    held = fields["extra"].get(name)
    return torch.zeros_like(fields["labels"], dtype=torch.float32) if held is None else held


def _stacked(name: str, first: Tensor, second: Tensor) -> Tensor:
    if first.ndim == 1:
        return torch.cat([first, second])
    width = max(first.shape[1], second.shape[1])
    return torch.cat([_widened(name, first, width), _widened(name, second, width)])


def _widened(name: str, tensor: Tensor, width: int) -> Tensor:
    missing = width - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (0, missing), value=_EMPTY.get(name, 0))
