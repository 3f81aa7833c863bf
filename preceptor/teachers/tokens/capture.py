"""Writing a language teacher's answers, a slice of positions at a time: no [N, V] tensor exists.

Dimension key: n positions, p passages, v classes.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from preceptor.errors import ModelError
from preceptor.teachers.base import Teacher
from preceptor.teachers.tokens.codecs import AnyCodec
from preceptor.teachers.tokens.manifest import Identity, Manifest
from preceptor.teachers.tokens.passages import Passages
from preceptor.teachers.tokens.store import Columns, joined
from preceptor.teachers.tokens.writer import SHARD_POSITIONS, Writer, Written
from preceptor.types import Batch, Changed, Dense, Distribution, Mixture, Projected

_MADE, _SEEN = 1 << 22, 1 << 20
"""Logits made by one product, and looked through at once: these stay in a processor's cache."""


def write_tokens(
    folder: Path,
    teacher: Teacher,
    batches: Iterable[Batch],
    *,
    identity: Identity,
    codec: AnyCodec,
    shard_positions: int = SHARD_POSITIONS,
) -> Manifest:
    """Write the teacher's answers at every scored position. A kill loses at most one shard.

    May be called again with the same arguments after a kill, a full disk or a damaged shard: rows
    that are there already are passed over without asking the teacher. A bad row stops it with
    what came before on the disk.

    Args:
        folder: made where it is not there; holds one cache.
        teacher: one that knows every class, or, for a top-k cache, as many as are to be kept; on
            the batches' device.
        batches: text whose `extra` has "row" and "offset", each row whole.
        identity: whose answers to what.
        codec: what is kept of each position.
        shard_positions: a shard is closed after at least so many positions.

    Raises:
        StorageError: the folder holds another cache, or the disk is full.
        NeedsError: the teacher does not give what is to be kept.
        DataError: one number is given to two texts, or a row is not there from first to last.
        ModelError: the teacher has another vocabulary than said.
        NonFiniteError: an answer is NaN or infinite.
    """
    with Writer(folder, identity, codec, shard_positions) as writer:
        if writer.manifest.complete:
            return writer.manifest
        for batch in batches:
            passages = Passages.of(batch)
            fresh = writer.fresh(passages.rows, passages.hashes)
            if not fresh.any():
                continue
            asked = passages.picked(fresh)
            writer.add(Written(asked, answers(teacher, batch, asked, identity, codec)))
        return writer.finish()


@torch.no_grad()
def answers(
    teacher: Teacher, batch: Batch, passages: Passages, identity: Identity, codec: AnyCodec
) -> Columns:
    """What is kept of the teacher's answers at all positions of some passages of a batch."""
    given = teacher.signal(batch).distribution
    rows = torch.from_numpy(np.repeat(passages.rows, passages.counts))
    offsets = torch.from_numpy(passages.offsets)
    parts: list[Columns] = []
    made, some = (max(16, entries // identity.vocabulary) for entries in (_MADE, _SEEN))
    for places in torch.arange(len(rows)).split(made):
        slice_ = given.at(passages.index[places].to(batch.labels.device))
        _check_classes(slice_, identity.vocabulary)
        for start in range(0, len(places), some):
            few = slice(start, start + some)
            seen = _few(slice_, few)
            parts.append(codec.observed(seen, rows[places[few]], offsets[places[few]]))
    return joined(parts)


def _few(given: Distribution, which: slice) -> Distribution:
    """Some positions of a slice; of logits without a copy."""
    if isinstance(given, Dense):
        return Dense(given.logits[which], given.temperature)
    assert not isinstance(given, Projected | Changed), "a slice is dense"
    index = given.weights[0] if isinstance(given, Mixture) else given.ids[..., 0]
    return given.at(torch.arange(len(index), device=index.device)[which])


def _check_classes(seen: Distribution, vocabulary: int) -> None:
    one = seen.members[0] if isinstance(seen, Mixture) else seen
    assert not isinstance(one, Projected | Changed), "a slice is dense"
    classes = one.logits.shape[-1] if isinstance(one, Dense) else one.classes
    if classes != vocabulary:
        raise ModelError(
            f"the teacher answers over {classes} classes",
            f"the cache is of a vocabulary of {vocabulary}",
            "Say the teacher's vocabulary, less the rows that are set aside.",
        )
