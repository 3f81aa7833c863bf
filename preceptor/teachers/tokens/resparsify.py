"""A smaller cache made of a larger one, without the teacher.

Dimension key: p passages, n positions.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from preceptor.errors import StorageError
from preceptor.teachers.tokens.codecs import AnyCodec
from preceptor.teachers.tokens.manifest import Manifest
from preceptor.teachers.tokens.passages import Passages
from preceptor.teachers.tokens.store import TokenStore
from preceptor.teachers.tokens.writer import SHARD_POSITIONS, Writer, Written

_AT_ONCE = 4096


def resparsify(
    folder: Path, to: Path, codec: AnyCodec, *, shard_positions: int = SHARD_POSITIONS
) -> Manifest:
    """Keep less of every position of a cache: fewer of its largest, or anything of dense logits.

    Goes on after a kill as `write_tokens` does.

    Args:
        folder: the cache.
        to: the new one's folder.
        codec: what is kept there.
        shard_positions: a shard is closed after at least so many positions.

    Raises:
        StorageError: `to` is the cache itself, or holds another one.
        NeedsError: the cache does not hold what is to be kept: more entries, another temperature,
            draws of its largest, or anything of draws.
    """
    if to.resolve() == folder.resolve():
        raise StorageError(
            f"the token cache {folder} was to be written anew into itself",
            "what is left out could not be had back",
            "Name another folder.",
        )
    store = TokenStore.open(folder)
    with Writer(to, store.manifest.identity, codec, shard_positions) as writer:
        for place in _chunks(store):
            place = place[writer.fresh(store.rows[place], store.hashes[place])]
            if not len(place):
                continue
            passages = Passages.stored(store.rows[place], store.counts[place], store.hashes[place])
            given = store.shown(store.columns(place))
            rows = torch.from_numpy(np.repeat(passages.rows, passages.counts))
            offsets = torch.from_numpy(passages.offsets)
            writer.add(Written(passages, codec.observed(given, rows, offsets)))
        return writer.finish()


def _chunks(store: TokenStore) -> Iterator[np.ndarray]:
    """Places of whole rows, about so many positions at a time."""
    number = np.cumsum(store.counts) // _AT_ONCE
    return iter(np.split(np.arange(len(store)), np.flatnonzero(np.diff(number)) + 1))
