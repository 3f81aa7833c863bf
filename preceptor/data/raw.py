"""Sets of images as a reader found them, and how they become the three sets of a run.

Dimension key: n images, c channels, h height, w width.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from preceptor.data.encoded import Encoded, EncodedImages, encoded_shape, fitted
from preceptor.data.images import ImageData, check_labels, image_data, image_set
from preceptor.data.stratified import parted, stratified
from preceptor.errors import DataError, nearest

_HOLD_OUT = 3


@dataclass(frozen=True, eq=False)
class RawSet:
    """Images of any size, and their labels.

    Args:
        images: files, or pixels in memory.
        labels: class indices, -1 for none.
        class_names: in the order of the labels; empty where labels are bare numbers.
        name: what to call the set in a message.
        columns: what else is told of each image, by name.
    """

    images: tuple[Encoded, ...] | UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    class_names: tuple[str, ...]
    name: str
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RawData:
    """The sets that a source has of its own; what it lacks is held out of train."""

    train: RawSet
    validation: RawSet | None
    test: RawSet | None
    origin: str


@dataclass(frozen=True)
class Shaping:
    """What all images are brought to.

    Args:
        size: height and width, or None to refuse images of different sizes.
        channels: 1 or 3, or None to refuse a mixture.
        memory: above this many bytes of pixels, files are decoded each time they are read.
    """

    size: tuple[int, int] | None
    channels: int | None
    memory: int


@dataclass(frozen=True)
class Holding:
    """What is held out of the training images, at random by `seed` and the labels alone.

    Args:
        validation, test: shares of the labelled images, where the source has no such set of its
            own; test is split off first.
        limit: how many of the training images are kept after that; None for all.
        seed: belongs to the data, not to a run.
    """

    validation: float
    test: float
    limit: int | None
    seed: int


def assembled(
    raw: RawData, shaping: Shaping, holding: Holding, class_names: tuple[str, ...] = ()
) -> ImageData:
    """The three sets of a run: one shape, one order of classes, nothing decoded in vain."""
    names = class_names or raw.train.class_names or _numbered(raw.train)
    if not (raw.train.labels >= 0).any():
        raise DataError(
            f"no training image of {raw.origin} has a label",
            "classes are learned from labelled images",
            "Check the path and the labels.",
        )
    train, validation, test = (
        given and _relabelled(given, names) for given in (raw.train, raw.validation, raw.test)
    )
    assert train is not None
    keys = (_HOLD_OUT, holding.seed)
    if test is None:
        train, test = _held_out(train, holding.test, keys)
    if validation is None:
        train, validation = _held_out(train, holding.validation, keys)
    if holding.limit is not None:
        train = _rows(train, stratified(train.labels, holding.limit, keys))
    shape = _shape(train, shaping)
    sets = (train, validation, test)
    files = sum(len(s.images) for s in sets if not isinstance(s.images, Tensor))
    in_memory = files * math.prod(shape) <= shaping.memory
    made = (
        replace(
            image_set(_pixels(s, shape, shaping, in_memory), s.labels, names, name),
            columns=s.columns,
            files=() if isinstance(s.images, Tensor) else tuple(each.name for each in s.images),
        )
        for s, name in zip(sets, ("train", "validation", "test"), strict=True)
    )
    return image_data(*made, origin=raw.origin)


def _held_out(raw: RawSet, share: float, keys: tuple[int, ...]) -> tuple[RawSet, RawSet]:
    count = max(1, round(share * int((raw.labels >= 0).sum())))
    stays, held = parted(raw.labels, count, keys)
    return _rows(raw, stays), _rows(raw, held)


def _rows(raw: RawSet, rows: Tensor) -> RawSet:
    kept = {name: tuple(each[row] for row in rows.tolist()) for name, each in raw.columns.items()}
    raw = replace(raw, columns=kept)
    if isinstance(raw.images, Tensor):
        return replace(raw, images=raw.images[rows], labels=raw.labels[rows])
    images = tuple(raw.images[row] for row in rows.tolist())
    return replace(raw, images=images, labels=raw.labels[rows])


def _numbered(raw: RawSet) -> tuple[str, ...]:
    count = int(raw.labels.max()) + 1 if len(raw.labels) else 0
    if count > len(raw.labels):
        raise DataError(
            f"the largest label of the {raw.name} set is {count - 1}, among {len(raw.labels)}"
            " images",
            "classes are numbered from 0 on and none is without images",
            "Number them again, or give the class names.",
        )
    return tuple(str(index) for index in range(count))


def _relabelled(raw: RawSet, names: tuple[str, ...]) -> RawSet:
    """Labels as indices into `names`; bare numbers are such indices already."""
    labels = raw.labels
    if raw.class_names and raw.class_names != names:
        unknown = [name for name in raw.class_names if name not in names]
        if unknown:
            raise DataError(
                f"the {raw.name} set has a class {unknown[0]!r}",
                f"the {len(names)} classes are others (nearest: {nearest(unknown[0], names)})",
                "Name every class once, the same way in every set.",
            )
        check_labels(labels, len(raw.class_names), raw.name)
        index = torch.tensor([names.index(name) for name in raw.class_names] + [-1])
        labels = index[labels]  # the label -1 finds the last entry, -1
    check_labels(labels, len(names), raw.name)
    return replace(raw, labels=labels)


def _shape(train: RawSet, shaping: Shaping) -> tuple[int, int, int]:
    first = train.images
    c, h, w = first.shape[1:] if isinstance(first, Tensor) else encoded_shape(first[0])
    return (shaping.channels or c, *(shaping.size or (h, w)))


def _pixels(
    raw: RawSet, shape: tuple[int, int, int], shaping: Shaping, in_memory: bool
) -> Tensor | EncodedImages:
    if isinstance(raw.images, Tensor):
        c, h, w = raw.images.shape[1:]
        own = (shaping.channels or c, *(shaping.size or (h, w)))
        return raw.images if own == (c, h, w) else _reshaped(raw.images, own)
    resize, convert = shaping.size is not None, shaping.channels is not None
    encoded = EncodedImages(raw.images, shape, resize=resize, convert=convert)
    if in_memory:
        return encoded.decoded()
    encoded.check()
    return encoded


def _reshaped(pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    images = (
        Image.fromarray(each.squeeze(-1) if each.shape[-1] == 1 else each)
        for each in pixels.permute(0, 2, 3, 1).contiguous().numpy()
    )
    return torch.from_numpy(np.stack([fitted(image, shape) for image in images]))
