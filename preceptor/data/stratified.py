"""A choice of examples in which every class has its share."""

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.counter import shuffled
from preceptor.errors import DataError

_FEW_LABELS = 4


def stratified(
    labels: Int[Tensor, " n"], count: int, keys: tuple[int, ...], keep: int = 0
) -> Int[Tensor, " k"]:
    """`count` of the labelled examples, sorted: each class in proportion, at least one of each.

    Shares are rounded by largest remainder; where `count` is smaller than the number of classes,
    `keys` decide which classes go without. Examples labelled -1 are never chosen.

    Args:
        labels: class indices, -1 for none.
        count: how many to choose, at least 1.
        keys: integers that the choice depends on, beside the labels.
        keep: how many examples of each class stay behind at least.

    >>> stratified(torch.tensor([0, 0, 0, 0, 1, 1]), count=3, keys=(0,)).shape
    torch.Size([3])
    """
    classes = shuffled(np.unique(labels[labels >= 0].numpy()), *keys)
    members = [np.flatnonzero(labels.numpy() == index) for index in classes]
    sizes = np.array([len(each) for each in members])
    room = np.maximum(sizes - keep, 0)
    if not 1 <= count <= room.sum():
        kept = f" with {keep} of each class left over" if keep else ""
        raise DataError(
            f"{count} labelled examples were asked for",
            f"1 to {room.sum()} can be chosen of {sizes.sum()} in {len(classes)} classes{kept}",
            "Choose a number in that range.",
        )
    quotas = _quotas(sizes, room, count)
    chosen = [
        shuffled(each, *keys, int(index))[:quota]
        for index, each, quota in zip(classes, members, quotas, strict=True)
    ]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def parted(
    labels: Int[Tensor, " n"], count: int, keys: tuple[int, ...]
) -> tuple[Int[Tensor, " k"], Int[Tensor, " h"]]:
    """Which examples stay, and which `count` labelled ones are held out, stratified.

    Every class keeps at least one example.
    """
    held = stratified(labels, count, keys, keep=1)
    stays = torch.ones(len(labels), dtype=torch.bool)
    stays[held] = False
    return stays.nonzero().flatten(), held


def few_labels(labels: Int[Tensor, " n"], count: int, seed: int) -> Int[Tensor, " k"]:
    """Ids of the `count` examples whose labels a student of few labels may read.

    Each class has its share, at least one where `count` allows it; which examples they are
    differs from seed to seed. Examples labelled -1 are never among them.
    """
    return stratified(labels, count, (_FEW_LABELS, seed))


def _quotas(sizes: NDArray[np.int64], room: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    shares = count * sizes / sizes.sum()
    quotas = np.minimum(1, room) if count >= len(sizes) else np.zeros_like(sizes)
    while quotas.sum() < count:
        behind = np.where(quotas < room, shares - quotas, -np.inf)
        quotas[behind.argmax()] += 1
    return quotas
