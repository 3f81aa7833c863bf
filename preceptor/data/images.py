"""Labelled images, and the three sets that a run needs.

Dimension key: n images, b examples, c channels, h height, w width.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from preceptor.data.augment import Augment
from preceptor.data.encoded import EncodedImages
from preceptor.errors import DataError
from preceptor.types import Batch


@final
@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, each with a label or none.

    Args:
        pixels: uint8, in memory or decoded on the way.
        labels: class indices, -1 where there is none.
        class_names: in the order of the labels.
        name: what to call the set in a message.
        ids: a name for each image that batches carry; differs between the sets of one
            `ImageData`, so that a cache keyed on it never mistakes one set for another.
        columns: what else is told of each image, by name.
        files: the file that each image was read from; empty where they were arrays already.
    """

    pixels: UInt8[Tensor, "n c h w"] | EncodedImages
    labels: Int[Tensor, " n"]
    class_names: tuple[str, ...]
    name: str
    ids: Int[Tensor, " n"]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pixels) == 0:
            raise DataError(
                f"the {self.name} set holds no image",
                "nothing can be trained or measured on it",
                "Check the path, the split or the share that was held out.",
            )
        check_labels(self.labels, len(self.class_names), self.name)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, c, h, w = self.pixels.shape
        return c, h, w

    @property
    def labelled(self) -> Int[Tensor, " b"]:
        """Rows of the images that have a label."""
        return (self.labels >= 0).nonzero().flatten()

    def batch(
        self,
        rows: Int[Tensor, " b"],
        *,
        augment: Augment | None = None,
        view: Int[Tensor, " b"] | None = None,
    ) -> Batch:
        """The images at `rows` with their labels and ids, as float32 pixels in [0, 1].

        `view` numbers what `augment` makes of each; without both the images are plain.
        """
        if view is None:
            view = torch.zeros(len(rows), dtype=torch.int64)
        pixels = self.pixels[rows]
        if augment is not None:
            pixels = augment(pixels, self.ids[rows], view)
        return Batch(
            pixels.float().div_(255), labels=self.labels[rows], ids=self.ids[rows], view=view
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All images once, plain, in order; the last batch may be smaller."""
        for rows in torch.arange(len(self)).split(size):
            yield self.batch(rows)

    def subset(self, rows: Int[Tensor, " b"], name: str | None = None) -> "ImageSet":
        """Some of the images; they keep their ids, and the set its name unless another is given."""
        chosen = self.pixels
        chosen = chosen.chosen(rows) if isinstance(chosen, EncodedImages) else chosen[rows]
        told = {key: tuple(each[k] for k in rows.tolist()) for key, each in self.columns.items()}
        return replace(
            self,
            pixels=chosen,
            labels=self.labels[rows],
            name=name or self.name,
            ids=self.ids[rows],
            columns=told,
            files=tuple(self.files[k] for k in rows.tolist()) if self.files else (),
        )

    def fingerprint(self) -> str:
        """A hash of pixels, labels and class names, as 64 hexadecimal digits.

        Images that are not in memory count by the name and length of their file.
        """
        digest = hashlib.sha256(repr((tuple(self.pixels.shape), self.class_names)).encode())
        digest.update(self.labels.numpy().tobytes())
        if isinstance(self.pixels, EncodedImages):
            digest.update(self.pixels.fingerprint())
        else:
            digest.update(self.pixels.contiguous().numpy().data)
        return digest.hexdigest()


@final
@dataclass(frozen=True, eq=False)
class ImageData:
    """What a run trains on, chooses by, and is measured on at the end.

    Args:
        train: ids 0 to n - 1.
        validation: held out of train for every choice; ids follow those of train.
        test: touched by no choice; ids follow those of validation.
        origin: where the images came from, in words.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    origin: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self.train.class_names

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return self.train.num_classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.train.shape

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the contents of the three sets."""
        each = (self.train, self.validation, self.test)
        return hashlib.sha256("".join(s.fingerprint() for s in each).encode()).hexdigest()


def image_set(
    pixels: UInt8[Tensor, "n c h w"] | EncodedImages,
    labels: Int[Tensor, " n"],
    class_names: tuple[str, ...],
    name: str = "train",
) -> ImageSet:
    """A set of its own, with ids from 0."""
    return ImageSet(pixels, labels, class_names, name, torch.arange(len(labels)))


def image_data(train: ImageSet, validation: ImageSet, test: ImageSet, origin: str) -> ImageData:
    """The three sets with ids that tell them apart, once they fit together.

    Raises:
        DataError: the sets differ in classes or in the images' shape, a class has no training
            image, or an image to measure on has no label.
    """
    for other in (validation, test):
        if other.class_names != train.class_names:
            raise DataError(
                f"the {other.name} set has the classes {_listed(other.class_names)}",
                f"the training set has {_listed(train.class_names)}",
                "Give both sets the same classes in the same order.",
            )
        if other.shape != train.shape:
            raise DataError(
                f"the {other.name} images are {_by(other.shape)}",
                f"the training images are {_by(train.shape)} (channels, height, width)",
                "Set `size` and `channels` to bring them to one shape.",
            )
        if (other.labels < 0).any():
            rows = (other.labels < 0).nonzero().flatten()
            raise DataError(
                f"images {_some(rows)} of the {other.name} set have no label",
                "nothing can be measured on them",
                "Move them to the training set's unlabelled images.",
            )
    _check_every_class(train)
    starts = (0, len(train), len(train) + len(validation))
    names = ("train", "validation", "test")
    numbered = (
        replace(images, name=name, ids=torch.arange(start, start + len(images)))
        for images, name, start in zip((train, validation, test), names, starts, strict=True)
    )
    return ImageData(*numbered, origin=origin)


def check_labels(labels: Int[Tensor, " n"], num_classes: int, name: str) -> None:
    """Raise `DataError` where a label is neither a class's index nor -1."""
    wrong = (labels < -1) | (labels >= num_classes)
    if wrong.any():
        rows = wrong.nonzero().flatten()
        raise DataError(
            f"the {name} set has labels {_some(labels[rows].unique())} (images {_some(rows)})",
            f"there are {num_classes} classes, 0 to {num_classes - 1}",
            "Correct the labels; -1 means that there is none.",
        )


def _check_every_class(train: ImageSet) -> None:
    counts = torch.bincount(train.labels[train.labelled], minlength=train.num_classes)
    empty = [train.class_names[index] for index in (counts == 0).nonzero().flatten().tolist()]
    if empty:
        raise DataError(
            f"no training image of the classes {_listed(empty)}",
            "a class nobody has seen can be neither taught nor learned",
            "Add images, or leave these classes out of the class names.",
        )


def _some(values: Tensor, most: int = 8) -> str:
    words = ", ".join(str(value) for value in values[:most].tolist())
    return words if len(values) <= most else f"{words} and {len(values) - most} more"


def _listed(names: tuple[str, ...] | list[str], most: int = 12) -> str:
    words = ", ".join(names[:most])
    return words if len(names) <= most else f"{words} and {len(names) - most} more"


def _by(shape: tuple[int, int, int]) -> str:
    return " by ".join(str(side) for side in shape)
