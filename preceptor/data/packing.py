"""Several examples in one sequence, none of which sees another.

A packed batch has `position_ids` that begin at 0 with every example, and no `attention_mask`: that
is how transformers (4.53 and later) tells examples apart, in eager attention, SDPA and flash
attention alike, sliding windows included; with a key-value cache (`use_cache`) it does not.
`check_packing` proves it on the model at hand.

Dimension key: b examples, t tokens, s sequences, u tokens of a sequence.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.collate import rounded
from preceptor.errors import DataError, ModelError
from preceptor.types import Batch, Inputs

Groups = Sequence[Sequence[int]]
"""Which examples lie in each sequence, in order."""


def grouped(lengths: NDArray[np.int64], room: int) -> list[list[int]]:
    """Examples by sequence: the longest first, each where it leaves the least room (best fit).

    Raises:
        DataError: one is longer than a sequence.

    >>> grouped(np.array([3, 5, 2, 4]), 7)
    [[1, 2], [3, 0]]
    """
    groups: list[list[int]] = []
    left: list[int] = []
    for index in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[index])
        if size > room:
            raise DataError(
                f"an example of {size} tokens is to be packed into sequences of {room}",
                "it does not fit",
                "Pack into sequences of max_length or more.",
            )
        fits = [(free, k) for k, free in enumerate(left) if free >= size]
        if fits:
            _, best = min(fits)
            groups[best].append(index)
            left[best] -= size
        else:
            groups.append([index])
            left.append(room - size)
    return groups


def packed_alike(
    batch: Batch,
    lengths: NDArray[np.int64],
    teacher_lengths: NDArray[np.int64] | None,
    *,
    room: int,
    rank: int,
    world: int,
) -> Batch:
    """A rank's examples in as many sequences, and as long ones, as on every other rank.

    Args:
        batch: the rank's own examples.
        lengths: tokens of the examples of all ranks; example i belongs to rank i modulo `world`.
        teacher_lengths: the same of what the teacher sees, where that differs.
        room: tokens of a sequence.
        rank, world: which rank, of how many.
    """
    each = [grouped(lengths[r::world], room) for r in range(world)]
    groups = each[rank] + [[]] * (max(map(len, each)) - len(each[rank]))
    theirs = None if teacher_lengths is None else _longest(teacher_lengths, each)
    return packed(batch, groups, length=_longest(lengths, each), teacher_length=theirs)


def _longest(lengths: NDArray[np.int64], each: Sequence[Groups]) -> int:
    """Tokens of the longest sequence of any rank, rounded up to a multiple of 8."""
    world = len(each)
    totals = [
        int(lengths[rank::world][list(group)].sum())
        for rank, groups in enumerate(each)
        for group in groups
    ]
    return rounded(max(totals), 8)


def packed(
    batch: Batch, groups: Groups, *, length: int | None = None, teacher_length: int | None = None
) -> Batch:
    """The same examples in fewer sequences; every scored position keeps all that is said of it.

    Args:
        batch: examples padded on the right, as `TextSet` makes them.
        groups: the examples of each sequence; an empty one is a sequence of padding.
        length: tokens to pad to; the longest sequence, rounded up to a multiple of 8, if not given.
        teacher_length: the same for the teacher's sequences.

    `ids` and other tensors of one number an example are those of a sequence's first; `extra["row"]`
    says of each position whose it is.
    """
    said = batch.fields()
    inputs, lengths = _mapping(batch.inputs), _lengths(batch.inputs)
    shape = tuple(inputs["input_ids"].shape)
    layout = _Layout(lengths, groups, length)
    first = torch.tensor([group[0] if group else 0 for group in groups])

    def moved(tensor: Tensor, empty: Any) -> Tensor:
        if tuple(tensor.shape[:2]) == shape:
            return layout.moved(tensor, empty)
        return tensor[first]

    fill = {"labels": -1, "row": -1, "offset": -1}
    said |= {
        name: moved(said[name], fill.get(name, 0))
        for name in ("labels", "mask", "labelled", "ids", "view")
        if said[name] is not None
    }
    said["masks"] = {name: moved(mask, False) for name, mask in batch.masks.items()}
    said["extra"] = {name: moved(each, fill.get(name, 0)) for name, each in batch.extra.items()}
    said["inputs"] = layout.inputs(inputs)
    if said["teacher_inputs"] is not None:
        theirs = _Layout(_lengths(said["teacher_inputs"]), groups, teacher_length)
        said["teacher_inputs"] = theirs.inputs(_mapping(said["teacher_inputs"]))
        places = batch.teacher_positions
        places = torch.arange(shape[1]).expand(shape) if places is None else places
        shifted = torch.where(places >= 0, places + theirs.begins[:, None], -1)
        said["teacher_positions"] = layout.moved(shifted, -1)
    return Batch(**said)


class _Layout:
    """Where each token goes: `index` [s, u] into the flattened [b, t], -1 for padding."""

    def __init__(self, lengths: NDArray[np.int64], groups: Groups, length: int | None) -> None:
        totals = [int(lengths[list(group)].sum()) for group in groups]
        width = length or rounded(max(totals), 8)
        self.lengths = lengths
        self.begins = torch.zeros(len(lengths), dtype=torch.int64)
        self.source = torch.full((len(groups), width), -1)
        self.within = torch.zeros(len(groups), width, dtype=torch.int64)
        for s, group in enumerate(groups):
            at = 0
            for example in group:
                size = int(lengths[example])
                self.source[s, at : at + size] = example
                self.within[s, at : at + size] = torch.arange(size)
                self.begins[example] = at
                at += size
            # Padding is one more example: nothing scored sees it, and it sees itself.
            self.within[s, at:] = torch.arange(width - at)

    def moved(self, tensor: Tensor, empty: Any) -> Tensor:
        """A tensor of positions [b, t, ...] as [s, u, ...]."""
        within = self.within.clamp_max(tensor.shape[1] - 1)
        found = tensor[self.source.clamp_min(0), within]
        found[self.source < 0] = empty
        return found

    def inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the model reads."""
        pad = int(inputs["input_ids"][0, -1])
        return {"input_ids": self.moved(inputs["input_ids"], pad), "position_ids": self.within}


def _mapping(inputs: Inputs) -> Mapping[str, Tensor]:
    assert not isinstance(inputs, Tensor), "text has named inputs"
    return inputs


def _lengths(inputs: Inputs) -> NDArray[np.int64]:
    return _mapping(inputs)["attention_mask"].sum(1).numpy()


def check_packing(
    shown: Callable[[Mapping[str, Tensor]], Float[Tensor, "s u _"]],
    vocabulary: int,
    *,
    tolerance: float = 1e-3,
) -> None:
    """Raise `ModelError` where examples that share a sequence change one another.

    Args:
        shown: what a model in eval mode shows for inputs, at each position; logits, say.
        vocabulary: how many ids it knows.
        tolerance: how far answers may differ, relative to their largest.
    """
    ids = torch.arange(12).mul(7).remainder(vocabulary)
    parts = ids[:5], ids[5:]
    positions = torch.cat([torch.arange(len(part)) for part in parts])[None]
    with torch.no_grad():
        together = shown({"input_ids": ids[None], "position_ids": positions})[0]
        apart = torch.cat([shown({"input_ids": part[None]})[0] for part in parts])
    gap = (together - apart).abs().max().item()
    if gap > tolerance * max(1.0, apart.abs().max().item()):
        raise ModelError(
            f"examples in one sequence change each other's answers by {gap:.3g}",
            "this model does not keep packed examples apart",
            "Train without packing, or with transformers 4.53 or later.",
        )
