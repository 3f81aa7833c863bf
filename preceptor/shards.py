"""Stores are written shard by shard, so that a kill at any moment loses at most one of them.

    manifest.json        what the store holds, and each shard's rows, size and sha256
    shard-00000.*        what was written first

A shard is put in place whole, then the manifest that names it replaces the one before.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from preceptor.errors import StorageError
from preceptor.files import write_atomically

M = TypeVar("M")

MANIFEST = "manifest.json"


@final
@dataclass(frozen=True)
class Shard:
    """One file of a store."""

    file: str
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def written(
        cls,
        folder: Path,
        before: Sequence["Shard"],
        suffix: str,
        rows: int,
        write: Callable[[Path], object],
    ) -> "Shard":
        """The next shard after those `before`, filled by `write` and put in place in one move."""
        numbers = [int(Path(shard.file).stem.removeprefix("shard-")) for shard in before]
        path = folder / f"shard-{max(numbers, default=-1) + 1:05d}{suffix}"
        write_atomically(path, write)
        return cls(path.name, rows, path.stat().st_size, _digest(path))

    def is_intact(self, folder: Path) -> bool:
        """Whether the file holds what was written."""
        path = folder / self.file
        if not path.is_file() or path.stat().st_size != self.bytes:
            return False
        return _digest(path) == self.sha256

    def verify(self, folder: Path) -> None:
        """Raises `StorageError` where the file does not hold what was written."""
        if not self.is_intact(folder):
            raise StorageError(
                f"the shard {folder / self.file}",
                "it is missing, truncated or changed: size or sha256 differ from the manifest",
                "Write the store again: whole shards are kept and this one is replaced.",
            )


def read_manifest(folder: Path, form: int, make: Callable[[dict[str, Any]], M]) -> M:
    """What `make` makes of a store's manifest; its `shards` are `Shard`s already.

    Raises:
        StorageError: there is none, it cannot be read, or it has another format than `form`.
    """
    path = folder / MANIFEST
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if (held := found["format"]) == form:
            found["shards"] = tuple(Shard(**shard) for shard in found["shards"])
            return make(found)
    except FileNotFoundError as error:
        raise StorageError(
            f"the store {folder}",
            f"there is no {MANIFEST} in it",
            "Check the path, or write the store first.",
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"the manifest {path}",
            f"it cannot be read ({error})",
            "Delete the folder and write the store again.",
        ) from error
    raise StorageError(
        f"the store {folder} has format {held}",
        f"this version reads format {form}",
        "Delete the folder, or begin anew with --fresh: this version then writes it again.",
    )


def clear_away(folder: Path, shards: Sequence[Shard]) -> None:
    """Removes what a kill left: half-written files, and shards that no manifest names."""
    named = {shard.file for shard in shards}
    for path in [*folder.glob("shard-*"), *folder.glob(".tmp-*")]:
        if path.name not in named:
            path.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
