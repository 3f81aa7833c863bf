"""Rows of a token cache, put on the disk shard by shard.

Dimension key: p passages, n positions, v classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from preceptor.errors import DataError, StorageError
from preceptor.shards import MANIFEST, Shard, clear_away
from preceptor.teachers.tokens.codecs import AnyCodec, DenseCodec
from preceptor.teachers.tokens.lists import Coding, Lists
from preceptor.teachers.tokens.manifest import Identity, Manifest
from preceptor.teachers.tokens.passages import Passages
from preceptor.teachers.tokens.store import Columns, TokenStore, joined, mapped

SHARD_POSITIONS = 1 << 17
"""A shard is closed after at least so many positions, where the caller says nothing."""


@final
@dataclass(frozen=True)
class Written:
    """Some rows and what is kept of all their positions."""

    passages: Passages
    columns: Columns


@final
class Writer:
    """Goes on where a folder's cache ends, or begins one; as a context, it keeps what it was given.

    Args:
        folder: made where it is not there; holds one cache.
        identity: whose answers to what.
        codec: what is kept of each position.
        shard_positions: a shard is closed after at least so many positions.

    Raises:
        StorageError: the folder holds another cache, or the disk is full.
    """

    def __init__(
        self, folder: Path, identity: Identity, codec: AnyCodec, shard_positions: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._shard_positions = folder, shard_positions
        self.manifest = _begun(folder, Manifest(identity, codec, {}))
        shards = [mapped(folder / shard.file) for shard in self.manifest.shards]
        there = TokenStore(folder, self.manifest, shards)
        self._hashes = dict(zip(there.rows.tolist(), there.hashes.tolist(), strict=True))
        self._held: list[Written] = []

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, StorageError):
            self.flush()

    def fresh(self, rows: NDArray[np.int64], hashes: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which of these rows are still to be written; each once.

        Raises:
            DataError: a row that is there has other tokens.
        """
        fresh = np.zeros(len(rows), np.bool_)
        for k, (row, hash_) in enumerate(zip(rows.tolist(), hashes.tolist(), strict=True)):
            fresh[k] = row not in self._hashes
            if self._hashes.setdefault(row, hash_) != hash_:
                raise DataError(
                    f"row {row} came with other tokens than are in the cache {self.folder}",
                    "a row's number names one text, rendered and cut in one way",
                    "Number the rows of all files together; or write another cache.",
                )
        return fresh

    def add(self, written: Written) -> None:
        """Takes rows that are not there; the shard is closed when it is long enough."""
        self._held.append(written)
        if sum(len(each.passages.index) for each in self._held) >= self._shard_positions:
            self.flush()

    def flush(self) -> None:
        """Puts what is held on the disk, as one shard."""
        if not self._held:
            return
        columns = joined([each.columns for each in self._held])
        coding = dict(self.manifest.coding) or _coding(self.manifest, columns)
        tensors = _tensors([each.passages for each in self._held], columns, coding)
        folder, shards = self.folder, self.manifest.shards
        shard = Shard.written(
            folder,
            shards,
            ".safetensors",
            sum(len(each.passages.index) for each in self._held),
            lambda beside: save_file(tensors, beside),
        )
        self.manifest = replace(self.manifest, shards=(*shards, shard), coding=coding)
        self.manifest.write(folder)
        self._held = []

    def finish(self) -> Manifest:
        """Puts the last rows on the disk and says that the cache is complete."""
        self.flush()
        if not self.manifest.shards:
            raise DataError(
                f"the token cache {self.folder} was given no scored token",
                "a cache of nothing serves nobody",
                "Give it batches with scored positions.",
            )
        self.manifest = replace(self.manifest, complete=True)
        self.manifest.write(self.folder)
        return self.manifest


def _begun(folder: Path, fresh: Manifest) -> Manifest:
    """The manifest to go on from; files that it does not name are removed."""
    manifest = fresh
    if (folder / MANIFEST).exists():
        found = Manifest.read(folder)
        found.expect(folder, fresh.identity)
        found.expect_codec(folder, fresh.codec)
        whole = tuple(shard for shard in found.shards if shard.is_intact(folder))
        complete = found.complete and len(whole) == len(found.shards)
        manifest = replace(found, shards=whole, complete=complete)
    clear_away(folder, manifest.shards)
    return manifest


def _coding(manifest: Manifest, columns: Columns) -> dict[str, Any]:
    """The codes that suit the first shard; all others are written in them too."""
    codec = manifest.codec
    if isinstance(codec, DenseCodec):
        return {}
    assert isinstance(columns, Lists)
    return Coding.fitted(columns, manifest.identity.vocabulary, codec.largest_number).text()


def _tensors(
    passages: Sequence[Passages], columns: Columns, coding: Mapping[str, Any]
) -> dict[str, Tensor]:
    counts = np.concatenate([each.counts for each in passages])
    index = {
        "row": np.concatenate([each.rows for each in passages]),
        "hash": np.concatenate([each.hashes for each in passages]),
        "first": np.concatenate([[0], np.cumsum(counts)]),
    }
    tensors = {name: torch.from_numpy(array) for name, array in index.items()}
    if isinstance(columns, Tensor):
        return {**tensors, "logits": columns.contiguous()}
    packed = Coding.told(dict(coding)).packed(columns, counts)
    # Two bytes hold the length of all but absurdly long lists.
    narrow = packed.lengths.max(initial=0) < 1 << 16
    lengths = packed.lengths.astype(np.uint16) if narrow else packed.lengths
    lists = {"start": packed.starts, "length": lengths, "head": packed.heads, "bits": packed.bits}
    return tensors | {name: torch.from_numpy(array) for name, array in lists.items()}
