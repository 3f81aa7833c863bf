"""A folder of a language teacher's answers, keyed by row of text and offset in it.

    manifest.json             whose answers to what, kept how; each shard's size and sha256
    shard-00000.safetensors   some rows, in the order they were written

A shard holds row [r] and hash [r] of its rows of text, first [r + 1], the position where each
begins, and either logits [n, v], or, of lists of ids, the coded bits, start [r + 1], the byte where
each row begins in them, length [n], the bits of each position, and head [n], its 16-bit number.
Shards are mapped from the disk; a row is found by its number and read alone.

Dimension key: r rows of a shard, n positions, p passages asked for, v classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from preceptor.errors import NeedsError, StorageError
from preceptor.teachers.tokens.codecs import DenseCodec
from preceptor.teachers.tokens.lists import Coding, Lists, Packed
from preceptor.teachers.tokens.manifest import Manifest
from preceptor.teachers.tokens.passages import Passages
from preceptor.types import Distribution

Columns = Lists | Tensor
"""What is kept of some positions: lists of ids, or logits [n, v]."""


@final
class TokenStore:
    """A cache, opened and verified. Lookups are exact: by row, never by order."""

    def __init__(
        self, folder: Path, manifest: Manifest, shards: Sequence[Mapping[str, Tensor]]
    ) -> None:
        self.folder, self.manifest = folder, manifest
        self._shards = [
            {name: tensor.numpy() for name, tensor in _plain(s).items()} for s in shards
        ]
        self._logits = [shard["logits"] for shard in shards if "logits" in shard]
        self._coding = Coding.told(dict(manifest.coding)) if manifest.coding else None
        rows = _concatenated([shard["row"] for shard in self._shards], np.int64)
        order = np.argsort(rows, kind="stable")
        sizes = [len(shard["row"]) for shard in self._shards]
        self.rows = rows[order]
        self._shard = np.repeat(np.arange(len(sizes)), sizes)[order]
        self._place = _concatenated([np.arange(size) for size in sizes], np.int64)[order]
        self.counts = _concatenated([np.diff(shard["first"]) for shard in self._shards], np.int64)[
            order
        ]
        self.hashes = _concatenated([shard["hash"] for shard in self._shards], np.uint32)[order]

    @classmethod
    def open(cls, folder: Path, *, partial: bool = False) -> "TokenStore":
        """Verifies every shard; raises `StorageError` naming the first that is not whole.

        Args:
            folder: the cache's.
            partial: whether one whose writing was not finished is opened too.
        """
        manifest = Manifest.read(folder)
        if not (manifest.complete or partial):
            raise StorageError(
                f"the token cache {folder} has {manifest.positions} tokens",
                "writing it was not finished",
                "Write it again: what is there is kept and the rest is added.",
            )
        for shard in manifest.shards:
            shard.verify(folder)
        return cls(folder, manifest, [mapped(folder / shard.file) for shard in manifest.shards])

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each row stands in `rows`, and whether it does."""
        place = np.searchsorted(self.rows, rows).clip(0, max(len(self.rows) - 1, 0))
        there = self.rows[place] == rows if len(self.rows) else np.zeros(len(rows), np.bool_)
        return place, there

    def read(self, passages: Passages) -> Distribution:
        """The distribution at all positions of some passages, flat, in their order, on the CPU.

        Raises:
            NeedsError: a row is not in the cache, or has other tokens there.
        """
        place, there = self.find(passages.rows)
        if not there.all():
            self._refuse(passages.rows[~there])
        other = self.hashes[place] != passages.hashes
        other |= self.counts[place] != passages.counts
        if other.any():
            names = passages.rows[other][:5].tolist()
            first = int(other.argmax())
            raise NeedsError(
                f"the token cache {self.folder} was asked for rows {names}",
                f"{int(other.sum())} of these {len(other)} have other tokens here than there (row "
                f"{names[0]}: {passages.counts[first]} here, {self.counts[place][first]} there)",
                "Read the rows as they were read when the cache was written: the same template, "
                "max_length and spans; or write another cache.",
            )
        return self.shown(self.columns(place))

    def shown(self, columns: Columns) -> Distribution:
        """The distribution that columns stand for."""
        codec, classes = self.manifest.codec, self.manifest.identity.vocabulary
        if isinstance(codec, DenseCodec):
            assert isinstance(columns, Tensor)
            return codec.shown(columns, classes)
        assert isinstance(columns, Lists)
        return codec.shown(columns, classes)

    def columns(self, place: NDArray[np.int64]) -> Columns:
        """What is kept of all positions of the rows at these places in `rows`."""
        at = list(zip(self._shard[place].tolist(), self._place[place].tolist(), strict=True))
        if isinstance(self.manifest.codec, DenseCodec):
            classes = self.manifest.identity.vocabulary
            empty = torch.empty(0, classes, dtype=getattr(torch, self.manifest.codec.dtype))
            return torch.cat([empty, *(self._logits[s][self._span(s, r)] for s, r in at)])
        assert self._coding is not None

        def joined(name: str, kind: type, bounds: str = "first") -> NDArray:
            return _concatenated(
                [self._shards[s][name][self._span(s, r, bounds)] for s, r in at], kind
            )

        sizes = [self._shards[s]["start"][r + 1] - self._shards[s]["start"][r] for s, r in at]
        packed = Packed(
            joined("bits", np.uint8, "start"),
            np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]),
            joined("length", np.uint32),
            joined("head", np.uint16),
        )
        return self._coding.unpacked(packed, self.counts[place])

    def _span(self, shard: int, row: int, bounds: str = "first") -> slice:
        ends = self._shards[shard][bounds]
        return slice(int(ends[row]), int(ends[row + 1]))

    def _refuse(self, rows: NDArray[np.int64]) -> None:
        first = ", ".join(map(str, rows[:5].tolist()))
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        raise NeedsError(
            f"the token cache {self.folder} was asked for rows {first}{more}",
            f"it holds {len(self)} rows and not these",
            "Write a cache of this data, or use the teacher live.",
        )


def mapped(path: Path) -> dict[str, Tensor]:
    """A shard's tensors, mapped from the disk."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def joined(parts: Sequence[Columns]) -> Columns:
    """All positions, one part after another."""
    logits = [part for part in parts if isinstance(part, Tensor)]
    return torch.cat(logits) if logits else Lists.joined([p for p in parts if isinstance(p, Lists)])


def _plain(shard: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in shard.items() if name != "logits"}


def _concatenated(parts: Sequence[NDArray], kind: type) -> NDArray:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind, copy=False)
