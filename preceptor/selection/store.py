"""A candidate's features in pieces, so that a killed ranking goes on from what it has.

    manifest.json                the probe, whose responses, and each shard's size and sha256
    shard-00000.safetensors      the features of some prompts, whole (`Features.save`)

Dimension key: p prompts.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from preceptor.errors import DataError
from preceptor.files import storage, write_text
from preceptor.selection.features import Features, joined
from preceptor.selection.probe import Probe
from preceptor.shards import MANIFEST, Shard, clear_away, read_manifest

FORMAT = 6
"""The version of the layout, and of the maps that stored sketches were made with."""

Extract = Callable[[Int64[np.ndarray, " p"]], Features]
"""Takes the features of all responses to some prompts: one pass over the student"""


@final
@dataclass(frozen=True)
class Manifest:
    """What a store holds: `responses` is the fingerprint of the candidate's text."""

    probe: Probe
    responses: str
    shards: tuple[Shard, ...] = ()
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a store's folder; `StorageError` where there is none to be read."""

        def made(found: dict[str, Any]) -> "Manifest":
            return cls(**{**found, "probe": Probe(**found["probe"])})

        return read_manifest(folder, FORMAT, made)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1)


@final
class FeatureStore:
    """Features by prompt: what the folder does not hold is extracted, a piece at a time, and kept.

    Pieces are cut from the prompts asked for, whether or not some are there, so that the same
    questions after a kill, or after a damaged shard, extract the same batches again and give the
    same bits.

    Args:
        folder: of this candidate alone; made where it is not there.
        probe: how features are taken.
        responses: the fingerprint of the candidate's text.
        extract: takes them.
        piece: prompts a shard; a kill loses at most the piece that is being extracted.

    Attributes:
        taken: prompts that were extracted since it was made.

    Raises:
        DataError: the folder holds features of another student, data, projection or text.
    """

    def __init__(
        self, folder: Path, probe: Probe, responses: str, extract: Extract, piece: int = 64
    ) -> None:
        self.folder, self._extract, self._piece, self.taken = folder, extract, piece, 0
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._manifest = _begun(folder, Manifest(probe, responses))
        self._parts = [Features.load(folder / shard.file) for shard in self._manifest.shards]

    @property
    def prompts(self) -> Int64[np.ndarray, " p"]:
        """The prompts whose features are on the disk, ascending."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *(p.prompts for p in self._parts)]))

    def __call__(self, prompts: Int64[np.ndarray, " p"]) -> Features:
        """The features of these prompts, ascending by prompt.

        Raises:
            DataError: `extract` answers with other prompts than it was asked about.
            StorageError: the disk is full; what was extracted before stays.
        """
        for start in range(0, len(prompts), self._piece):
            piece = prompts[start : start + self._piece]
            missing = piece[~np.isin(piece, self.prompts)]
            if len(missing):
                self._keep(self._extract(missing), missing)
        return joined(self._parts).of(prompts)

    def _keep(self, part: Features, asked: Int64[np.ndarray, " p"]) -> None:
        self._manifest.probe.expect(part.probe, "what was extracted")
        if not np.array_equal(part.every_prompt, np.unique(asked)):
            raise DataError(
                f"features of {len(part.every_prompt)} prompts were extracted",
                f"{len(asked)} prompts were asked for, and each needs its responses",
                "Give every prompt at least one response, or leave it out for all candidates.",
            )
        shards = self._manifest.shards
        shard = Shard.written(self.folder, shards, ".safetensors", len(part), part.write)
        self._manifest = replace(self._manifest, shards=(*shards, shard))
        write_text(self.folder / MANIFEST, self._manifest.text())
        self._parts.append(part)
        self.taken += len(asked)


def _begun(folder: Path, fresh: Manifest) -> Manifest:
    """The manifest to go on from; files that it does not name, or that changed, are removed."""
    manifest = fresh
    if (folder / MANIFEST).exists():
        found = Manifest.read(folder)
        for name, held, asked in _told_apart(found, fresh):
            if held != asked:
                raise DataError(
                    f"the features in {folder} are of {name} {_shown(held)}",
                    f"features of {name} {_shown(asked)} were to be added, and they cannot be mixed"
                    + _MEANS.get(name, ""),
                    "Choose another folder with --out, or start anew with --fresh.",
                )
        whole = tuple(shard for shard in found.shards if shard.is_intact(folder))
        manifest = replace(found, shards=whole)
    clear_away(folder, manifest.shards)
    return manifest


_MEANS = {
    "student": ": the student's weights have changed",
    "data": ": there are other prompts, or the student reads them otherwise",
    "responses": ": the candidate's text, or who writes it, has changed",
}


def _shown(value: Any) -> str:
    """A fingerprint's beginning, anything else whole."""
    return str(value)[:12] if isinstance(value, str) else str(value)


def _told_apart(found: Manifest, fresh: Manifest) -> list[tuple[str, Any, Any]]:
    held, asked = asdict(found.probe), asdict(fresh.probe)
    probes = [(name, held[name], asked[name]) for name in asked]
    return [*probes, ("responses", found.responses, fresh.responses)]
