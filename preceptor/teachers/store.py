"""A folder of a teacher's logits, keyed by example and view: its layout, and reading it.

    manifest.json        whose logits of what, and each shard's rows, size and sha256
    shard-00000.npy      rows of (id, view, logits), in the order they were written

The manifest is replaced after each shard and says `complete` only after the last one.

Dimension key: b examples asked for, v classes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.errors import NeedsError, StorageError
from preceptor.shards import Shard, read_manifest

FORMAT = 1
"""The layout's version."""

IN_MEMORY = 1 << 30
"""Logits of up to this many bytes are read into memory, where the caller says nothing."""

Precision = Literal["float32", "float16"]


@final
@dataclass(frozen=True)
class Manifest:
    """What a store holds.

    Args:
        teacher: the fingerprint of the weights that answered.
        data: the fingerprint of the data that was asked about.
        views: how many views of each example there may be; they are 0 to views - 1.
        classes: v; 0 while nothing is written.
        dtype: what the logits are stored as.
        complete: whether all shards are there.
        shards: the files.
        format: the layout's version.
    """

    teacher: str
    data: str
    views: int
    classes: int = 0
    dtype: Precision = "float32"
    complete: bool = False
    shards: tuple[Shard, ...] = ()
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a store's folder."""
        return read_manifest(folder, FORMAT, lambda found: cls(**found))

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1)


def row_type(classes: int, dtype: Precision) -> np.dtype[Any]:
    """One row of a shard."""
    logits = {"float32": "<f4", "float16": "<f2"}[dtype]
    return np.dtype([("id", "<i8"), ("view", "<i8"), ("logits", logits, (classes,))])


@final
class Store:
    """A finished store, opened and verified. Lookups are exact: by (id, view), never by order."""

    def __init__(
        self, folder: Path, manifest: Manifest, shards: Sequence[np.ndarray], in_memory: int
    ) -> None:
        self.folder, self.manifest = folder, manifest
        self._logits = [np.asarray(shard["logits"]) for shard in shards]
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._index = _index([(shard["id"], shard["view"]) for shard in shards], manifest.views)
        if sum(part.nbytes for part in self._logits) <= in_memory:
            self._logits = [np.concatenate(self._logits)]

    @classmethod
    def open(cls, folder: Path, in_memory: int = IN_MEMORY) -> "Store":
        """Verifies every shard; raises `StorageError` naming the first that is not whole.

        Logits of up to `in_memory` bytes are read into memory, more are mapped from the disk.
        """
        manifest = Manifest.read(folder)
        if not manifest.complete:
            raise StorageError(
                f"the signal store {folder} has {sum(s.rows for s in manifest.shards)} rows",
                "writing it was not finished",
                "Write it again: what is there is kept and the rest is added.",
            )
        shards = []
        for shard in manifest.shards:
            shard.verify(folder)
            shards.append(np.load(folder / shard.file, mmap_mode="r", allow_pickle=False))
        return cls(folder, manifest, shards, in_memory)

    def expect(self, *, teacher: str | None = None, data: str | None = None) -> None:
        """Raises `StorageError` where the store is of another teacher or of other data."""
        for what, asked in (("teacher", teacher), ("data", data)):
            held = getattr(self.manifest, what)
            if asked is not None and asked != held:
                raise StorageError(
                    f"the signal store {self.folder} is of {what} {held[:12]}",
                    f"this run's {what} is {asked[:12]}",
                    f"Use that {what} again, or write a store of this one to another folder.",
                )

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def classes(self) -> int:
        """v."""
        return self.manifest.classes

    def read(self, ids: Int[Tensor, " b"], view: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """The logits of these examples in these views, on the CPU, in the stored dtype."""
        id_, view_ = ids.cpu().numpy(), view.cpu().numpy()
        known, views = self._index.shape
        inside = (id_ >= 0) & (id_ < known) & (view_ >= 0) & (view_ < views)
        rows = self._index[np.where(inside, id_, 0), np.where(inside, view_, 0)]
        missing = (rows < 0) | ~inside
        if missing.any():
            self._refuse(id_[missing], view_[missing])
        if len(self._logits) == 1:
            return torch.from_numpy(self._logits[0][rows])
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        places = zip(parts.tolist(), (rows - self._starts[parts]).tolist(), strict=True)
        return torch.from_numpy(np.stack([self._logits[part][row] for part, row in places]))

    def _refuse(self, ids: np.ndarray, views: np.ndarray) -> None:
        first = ", ".join(f"{i} (view {v})" for i, v in zip(ids[:5], views[:5], strict=True))
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        raise NeedsError(
            f"the signal store {self.folder} was asked for ids {first}{more}",
            f"it holds {len(self)} rows and not these",
            "Write a store of this data with as many views as training draws, or use the "
            "teacher live.",
        )


def _index(keys: Sequence[tuple[np.ndarray, np.ndarray]], views: int) -> np.ndarray:
    """A dense table of each (id, view)'s row, -1 where there is none."""
    ids = np.concatenate([id_ for id_, _ in keys])
    index = np.full((int(ids.max()) + 1, views), -1, dtype=np.int32)
    index[ids, np.concatenate([view for _, view in keys])] = np.arange(len(ids), dtype=np.int32)
    return index
