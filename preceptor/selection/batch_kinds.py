"""Kinds of batches: what was right for one may be wrong for another.

A guess about which rows are which example's is proved on a first batch. As many tokens as examples,
padding, or an input that is longer than all before it may show for the first time later.
"""

from collections.abc import Hashable
from typing import final

from torch import Tensor

from preceptor.batches import Batch


@final
class BatchKinds:
    """Those that were met so far."""

    def __init__(self) -> None:
        self._met: set[Hashable] = set()

    def is_new(self, batch: Batch) -> bool:
        """Whether a batch is the first of its kind; the next one like it is not."""
        kind = _kind(batch)
        is_new = kind not in self._met
        self._met.add(kind)
        return is_new


def _kind(batch: Batch) -> Hashable:
    """How many examples; of what they are told, sizes roughly, how they divide, and padding."""
    count, inputs = len(batch), batch.inputs
    tensors = {"": inputs} if isinstance(inputs, Tensor) else inputs
    found: list[Hashable] = [count]
    for name, value in sorted(tensors.items()):
        sizes = value.shape[1:]
        found.append(
            (name, *((s.bit_length(), s % count == 0, count % s == 0) for s in sizes if s))
        )
        if name == "attention_mask":
            found.append(bool((value == 0).any()))
    return tuple(found)
