"""Writing a store of a teacher's logits, so that a kill at any moment loses at most one shard.

Dimension key: b examples, v classes.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from preceptor.errors import DataError, NeedsError, NonFiniteError, StorageError
from preceptor.files import write_text
from preceptor.shards import MANIFEST, Shard, clear_away
from preceptor.teachers.base import Teacher
from preceptor.teachers.store import Manifest, Precision, row_type
from preceptor.types import Batch

LARGEST_INDEX = 1 << 31
"""The dense table of (id, view) may have this many entries."""


def write_store(
    folder: Path,
    teacher: Teacher,
    batches: Iterable[Batch],
    *,
    teacher_hash: str,
    data_hash: str,
    views: int = 1,
    dtype: Precision = "float32",
    shard_rows: int = 1 << 16,
) -> None:
    """Asks the teacher about every batch once and keeps its logits; goes on where it was killed.

    Call it again with the same arguments after a kill, a full disk or a damaged shard: batches
    whose rows are there already are passed over without asking the teacher.

    Args:
        folder: made where it is not there; holds one store.
        teacher: one that offers logits, on the batches' device.
        batches: every example in every view, once, with ids; logits must be [b, v].
        teacher_hash: what names the teacher (`weights.fingerprint`).
        data_hash: what names the data.
        views: how many views there are; their numbers are 0 to views - 1.
        dtype: "float16" halves the size and rounds to three digits.
        shard_rows: a shard is closed after at least so many rows.

    Raises:
        StorageError: the folder holds another store, or the disk is full.
        NeedsError: the teacher has no logits, or there is more than one position an example.
        DataError: an (id, view) comes twice, or lies outside what is declared.
        NonFiniteError: a logit is NaN or infinite.
    """
    if "logits" not in teacher.offers().kinds:
        raise NeedsError(
            f"a store of {type(teacher).__name__}'s signals",
            "it gives no raw logits, which alone can be read at any temperature",
            "Store each member of an ensemble, or average their logits.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    manifest = _begun(folder, Manifest(teacher_hash, data_hash, views, dtype=dtype))
    if manifest.complete:
        return
    there, asked = _Keys(views), _Keys(views)
    for shard in manifest.shards:
        rows = np.load(folder / shard.file, mmap_mode="r", allow_pickle=False)
        there.add(rows["id"], rows["view"])
    held: list[np.ndarray] = []
    for batch in batches:
        ids, view = batch.ids.cpu().numpy(), batch.view.cpu().numpy()
        asked.add(ids, view)
        fresh = ~there.holds(ids, view)
        if not fresh.any():
            continue
        rows = _rows(teacher, batch, dtype)[fresh]
        manifest = replace(manifest, classes=_same_classes(manifest.classes, rows))
        held.append(rows)
        if sum(map(len, held)) >= shard_rows:
            manifest = _close_shard(folder, manifest, held)
            held = []
    if held:
        manifest = _close_shard(folder, manifest, held)
    if not manifest.shards:
        raise DataError(
            f"the signal store {folder} was given no batch",
            "a store of nothing serves nobody",
            "Give it batches with ids.",
        )
    _replace_manifest(folder, replace(manifest, complete=True))


def _begun(folder: Path, fresh: Manifest) -> Manifest:
    """The manifest to go on from; files that it does not name are removed."""
    manifest = fresh
    if (folder / MANIFEST).exists():
        found = Manifest.read(folder)
        for name in ("teacher", "data", "views", "dtype"):
            if getattr(found, name) != getattr(fresh, name):
                raise StorageError(
                    f"the signal store {folder} has {name} {getattr(found, name)}",
                    f"{getattr(fresh, name)} was to be written",
                    "Write to another folder, or delete this one.",
                )
        whole = tuple(shard for shard in found.shards if shard.is_intact(folder))
        complete = found.complete and len(whole) == len(found.shards)
        manifest = replace(found, shards=whole, complete=complete)
    clear_away(folder, manifest.shards)
    return manifest


def _rows(teacher: Teacher, batch: Batch, dtype: Precision) -> np.ndarray:
    logits = teacher.signal(batch).logits
    if logits.ndim != 2:
        raise NeedsError(
            f"the teacher answered with logits {tuple(logits.shape)}",
            "a store of whole logits holds one row an example",
            "Use the teacher live.",
        )
    rows = np.empty(len(logits), dtype=row_type(logits.shape[1], dtype))
    rows["id"], rows["view"] = batch.ids.cpu().numpy(), batch.view.cpu().numpy()
    with np.errstate(over="ignore"):
        rows["logits"] = logits.float().cpu().numpy()
    broken = ~np.isfinite(rows["logits"]).all(axis=-1)
    if broken.any():
        raise NonFiniteError(
            f"the teacher's logits as {dtype} for ids {rows['id'][broken][:5].tolist()}",
            "they are NaN or infinite",
            "Look at these examples and at the teacher, or store float32.",
        )
    return rows


def _same_classes(classes: int, rows: np.ndarray) -> int:
    found = rows["logits"].shape[1]
    if classes not in (0, found):
        raise StorageError(
            f"logits of {found} classes for a store of {classes}",
            "one teacher has one number of classes",
            "Write to another folder.",
        )
    return found


def _close_shard(folder: Path, manifest: Manifest, held: list[np.ndarray]) -> Manifest:
    rows = np.concatenate(held)
    shard = Shard.written(
        folder,
        manifest.shards,
        ".npy",
        len(rows),
        lambda beside: np.save(beside, rows, allow_pickle=False),
    )
    manifest = replace(manifest, shards=(*manifest.shards, shard))
    _replace_manifest(folder, manifest)
    return manifest


def _replace_manifest(folder: Path, manifest: Manifest) -> None:
    write_text(folder / MANIFEST, manifest.text())


class _Keys:
    """Which (id, view) have been met."""

    def __init__(self, views: int) -> None:
        self.views = views
        self.met = np.zeros(0, dtype=bool)

    def add(self, ids: np.ndarray, view: np.ndarray) -> None:
        """Take note; raises `DataError` for what came before or lies outside."""
        if ids.min() < 0 or view.min() < 0 or view.max() >= self.views:
            raise DataError(
                f"ids from {ids.min()} to {ids.max()} in views {view.min()} to {view.max()}",
                f"ids start at 0, and views are 0 to {self.views - 1}",
                "Number the examples from 0 and give `views` their count.",
            )
        if (int(ids.max()) + 1) * self.views > LARGEST_INDEX:
            raise DataError(
                f"ids up to {ids.max()} in {self.views} views",
                f"the table of (id, view) may have {LARGEST_INDEX} entries",
                "Number the examples from 0 without gaps, or store fewer views.",
            )
        keys = ids * self.views + view
        if int(keys.max()) >= len(self.met):
            room = np.zeros(max(int(keys.max()) + 1, 2 * len(self.met)), dtype=bool)
            room[: len(self.met)] = self.met
            self.met = room
        again = self.met[keys]
        if again.any() or len(np.unique(keys)) < len(keys):
            raise DataError(
                f"ids among {ids[:5].tolist()} came twice in one view",
                "an id names one example, and a store holds each view of it once",
                "Give every example its own id, and pass over the data once.",
            )
        self.met[keys] = True

    def holds(self, ids: np.ndarray, view: np.ndarray) -> np.ndarray:
        """Which of these have been met."""
        keys = ids * self.views + view
        inside = keys < len(self.met)
        return inside & self.met[np.where(inside, keys, 0)] if len(self.met) else inside
