"""Batches of token ids that need no text."""

import torch
from torch import Tensor

from preceptor.batches import Batch


def token_batch(
    lengths: tuple[int, ...] = (10, 7, 9), *, classes: int = 61, pad: int = 0, wide: int = 0
) -> Batch:
    """Rows of random ids with three tokens of prompt each, padded on the right by `wide` more."""
    generator = torch.Generator().manual_seed(0)
    count, longest = len(lengths), max(lengths)
    drawn = torch.randint(3, classes, (count, longest), generator=generator)
    room = torch.full((count, wide), pad)
    ids = torch.cat([drawn, room], dim=1)
    attention, labels = torch.ones_like(ids), torch.full_like(ids, -1)
    for row, length in enumerate(lengths):
        attention[row, length:] = 0
        ids[row, length:] = pad
        labels[row, 2 : length - 1] = ids[row, 3:length]
    inputs: dict[str, Tensor] = {"input_ids": ids, "attention_mask": attention}
    return Batch(inputs, labels=labels, mask=labels >= 0, ids=torch.arange(count))
