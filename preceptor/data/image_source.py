"""Training batches of images: a stream of labelled ones, and beside it one of unlabelled ones."""

import hashlib
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.augment import Augment
from preceptor.data.counter import shuffled
from preceptor.data.images import ImageSet
from preceptor.data.source import Source
from preceptor.errors import DataError
from preceptor.types import Batch

_LABELLED, _UNLABELLED = 1, 2


@final
class ImageSource(Source):
    """Each step's batch: `batch` labelled draws, then `unlabelled_batch` unlabelled ones.

    Each stream walks through its own ids in a new order every epoch, without replacement, and
    goes on in the next epoch where one ends within a batch. An order is a function of the seed,
    the stream and the epoch alone, so the labelled draws are the same with or without the other
    stream, and step, rank and resumption change nothing.

    Args:
        images: the training set, ids 0 to n - 1.
        labelled: ids whose labels training may read.
        unlabelled: ids whose labels it may not, even where they are known.
        batch: labelled examples a step, over all ranks.
        unlabelled_batch: unlabelled examples a step, over all ranks; 0 for none.
        seed: decides the orders, and the augmentation where it has a new view every epoch.
        augment: what is done to the images, or nothing.
        omit: classes that are left out of both streams: a transfer set that lacks them.

    Raises:
        DataError: nothing is left to draw from, or ids overlap or have no label.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        labelled: Int[Tensor, " l"],
        unlabelled: Int[Tensor, " u"] | None = None,
        batch: int,
        unlabelled_batch: int = 0,
        seed: int = 0,
        augment: Augment | None = None,
        omit: Sequence[int] = (),
    ) -> None:
        if batch < 1 or unlabelled_batch < 0:
            raise DataError(
                f"batch={batch}, unlabelled_batch={unlabelled_batch}",
                "a step draws at least one labelled example",
                "Give a batch of 1 or more, and 0 or more unlabelled examples.",
            )
        unlabelled = torch.empty(0, dtype=torch.int64) if unlabelled is None else unlabelled
        _check_ids(images, labelled, unlabelled)
        self._images, self._augment, self._seed = images, augment, seed
        self._batch, self._unlabelled_batch = batch, unlabelled_batch
        self.labelled = without_classes(labelled, images, omit)
        self.unlabelled = without_classes(unlabelled, images, omit)
        self.num_classes, self.num_examples = images.num_classes, len(images)
        self._labels = torch.full_like(images.labels, -1)
        self._labels[self.labelled] = images.labels[self.labelled]
        self._step = 0
        self._streams = (
            _Stream(self.labelled, batch, (seed, _LABELLED), "labelled"),
            _Stream(self.unlabelled, unlabelled_batch, (seed, _UNLABELLED), "unlabelled"),
        )

    @property
    def labels(self) -> Int[Tensor, " b"]:
        """Each id's label, -1 where training may not see one."""
        return self._labels

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every labelled example is drawn at least once."""
        return -(-len(self.labelled) // self._batch)

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """Rows rank, rank + world, ... of the next step's batch: the labelled ones first."""
        for size, name in ((self._batch, "batch"), (self._unlabelled_batch, "unlabelled_batch")):
            if size % world:
                raise DataError(
                    f"{name}={size} on {world} processes",
                    "every process takes the same number of examples",
                    f"Choose a multiple of {world}.",
                )
        drawn, epochs = zip(*(stream.draw(self._step) for stream in self._streams), strict=True)
        self._step += 1
        mine = slice(rank, None, world)
        return self._made(np.concatenate(drawn)[mine], np.concatenate(epochs)[mine])

    def sample(self, count: int = 2) -> Batch:
        """The first labelled examples, then unlabelled ones, plain; the stream stays in place."""
        ids = torch.cat([self.labelled, self.unlabelled])
        if count > len(ids):
            raise DataError(
                f"a sample of {count} examples was asked for",
                f"the source has {len(ids)}",
                "Ask for fewer, or add images.",
            )
        return self._hidden(self._images.batch(ids[:count]))

    def labelled_only(self) -> "ImageSource":
        """The same labelled draws from the first step on, and nothing beside them."""
        return ImageSource(
            self._images,
            labelled=self.labelled,
            batch=self._batch,
            seed=self._seed,
            augment=self._augment,
        )

    def state(self) -> dict[str, Any]:
        """The number of steps taken, and what the draws depend on."""
        return {"step": self._step, "draws": self._identity()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave; refuses the state of a source that draws otherwise."""
        if state["draws"] != self._identity():
            raise DataError(
                "the checkpoint's source has other ids, sizes, seed or augmentation",
                "going on from it would train on other draws than the run began with",
                "Start in a new folder, or restore the data and its options.",
            )
        self._step = state["step"]

    def _made(self, ids: NDArray[np.int64], epochs: NDArray[np.int64]) -> Batch:
        if self._augment is None:
            view = torch.zeros(len(ids), dtype=torch.int64)
        else:
            view = torch.from_numpy(self._augment.view(epochs, self._seed))
        rows = torch.from_numpy(ids)
        return self._hidden(self._images.batch(rows, augment=self._augment, view=view))

    def _hidden(self, batch: Batch) -> Batch:
        labels = self._labels[batch.ids]
        return Batch(
            batch.inputs, labels=labels, labelled=labels >= 0, ids=batch.ids, view=batch.view
        )

    def _identity(self) -> str:
        said = (self._batch, self._unlabelled_batch, self._seed, self._augment, self.num_examples)
        digest = hashlib.sha256(repr(said).encode())
        for ids in (self.labelled, self.unlabelled):
            digest.update(ids.numpy().tobytes())
            digest.update(b"/")
        return digest.hexdigest()


class _Stream:
    """The endless concatenation of epochs, each an order of the ids."""

    def __init__(self, ids: Tensor, size: int, keys: tuple[int, int], name: str) -> None:
        if size and not len(ids):
            raise DataError(
                f"{size} {name} examples a step were asked for",
                f"no {name} example is left to draw from",
                "Give some, omit fewer classes, or ask for 0.",
            )
        self._ids, self._size, self._keys = ids.numpy(), size, keys
        self._orders: dict[int, NDArray[np.int64]] = {}

    def draw(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids of a step, and the epoch of each."""
        if not self._size:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        places = np.arange(step * self._size, (step + 1) * self._size)
        epochs, within = np.divmod(places, len(self._ids))
        orders = {epoch: self._order(epoch) for epoch in range(epochs[0], epochs[-1] + 1)}
        self._orders = orders  # what this step used is what the next one begins with
        drawn = np.concatenate([orders[e][within[epochs == e]] for e in orders])
        return drawn, epochs

    def _order(self, epoch: int) -> NDArray[np.int64]:
        known = self._orders.get(epoch)
        return shuffled(self._ids, *self._keys, epoch) if known is None else known


def rest(images: ImageSet, ids: Int[Tensor, " l"]) -> Int[Tensor, " u"]:
    """The ids of a training set that are not among `ids`.

    Where a few are labelled these are the unlabelled ones.
    """
    others = torch.ones(len(images), dtype=torch.bool)
    others[ids] = False
    return others.nonzero().flatten()


def without_classes(
    ids: Int[Tensor, " n"], images: ImageSet, omit: Sequence[int]
) -> Int[Tensor, " k"]:
    """The ids whose image is of none of the classes in `omit`, by its true label.

    Raises:
        DataError: a class does not exist, or an image's class is not known.
    """
    if not omit:
        return ids
    unknown = sorted(set(omit) - set(range(images.num_classes)))
    if unknown:
        raise DataError(
            f"omit={list(omit)}",
            f"there is no class {', '.join(map(str, unknown))}: they are 0 to"
            f" {images.num_classes - 1}",
            "Name classes by their index.",
        )
    truth = images.labels[ids]
    if (truth < 0).any():
        raise DataError(
            f"classes {list(omit)} are to be omitted, and image {ids[truth < 0][0]} has no label",
            "whether it belongs to them cannot be known",
            "Leave images without a label out, or omit nothing.",
        )
    return ids[~torch.isin(truth, torch.tensor(list(omit)))]


def _check_ids(images: ImageSet, labelled: Tensor, unlabelled: Tensor) -> None:
    if not torch.equal(images.ids, torch.arange(len(images))):
        raise DataError(
            f"the {images.name} set's ids are not 0 to {len(images) - 1}",
            "memories and caches of the training set are indexed by them",
            "Train on `ImageData.train`, and choose among its ids.",
        )
    drawn = torch.cat([labelled, unlabelled])
    if len(drawn.unique()) < len(drawn):
        raise DataError(
            f"{len(drawn) - len(drawn.unique())} ids are named twice",
            "an example is labelled or unlabelled, once",
            "Remove the repetitions; `rest` gives the ids that are not labelled.",
        )
    if ((drawn < 0) | (drawn >= len(images))).any():
        raise DataError(
            f"ids from {int(drawn.min())} to {int(drawn.max())}",
            f"the {images.name} set has 0 to {len(images) - 1}",
            "Choose among its ids.",
        )
    bare = labelled[images.labels[labelled] < 0]
    if len(bare):
        raise DataError(
            f"image {bare[0]} is to be drawn with its label",
            "it has none",
            "Give it to the unlabelled stream; `ImageSet.labelled` lists those with a label.",
        )
