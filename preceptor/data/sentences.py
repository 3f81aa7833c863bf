"""Sentences of running text, and pairs of neighbours: what belongs together without annotation.

Dimension key: n pairs, b = 2 n sentences.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.collate import rounded
from preceptor.data.counter import shuffled
from preceptor.data.rows import Rows
from preceptor.data.source import Source
from preceptor.errors import DataError
from preceptor.types import Batch

_ORDER = 7
_ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"(])")
_FEWEST, _MOST = 5, 60
"""Words of a sentence."""

_LETTERS = 0.75
"""The share of letters and blanks in a sentence of prose; code and tables have less."""


@dataclass(frozen=True)
class Pair:
    """Two sentences that follow one another; `place` is where their passage stands."""

    first: str
    second: str
    place: str


def neighbours(rows: Rows) -> Iterator[Pair]:
    """Disjoint pairs of sentences that follow one another in a document.

    What is no sentence of prose (a heading, code, a table's line) parts what stands around it.

    Raises:
        DataError: a row is a conversation, or has no text.
    """
    for row in rows:
        if row.text is None:
            raise DataError(
                f"{row.place} is no running text",
                "neighbouring sentences are read from documents",
                "Name plain text, or records with a column `text`.",
            )
        before = ""
        for sentence in _sentences(row.text):
            if not _is_prose(sentence):
                before = ""
            elif before:
                yield Pair(before, sentence, row.place)
                before = ""
            else:
                before = sentence


def distinct(pairs: Iterable[Pair], seen: set[str]) -> Iterator[Pair]:
    """The pairs of whose sentences none was in `seen`, which they then are."""
    for pair in pairs:
        if not seen & {pair.first, pair.second}:
            yield pair
        seen |= {pair.first, pair.second}


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        yield from _ENDS.split(" ".join(paragraph.split()))


def _is_prose(sentence: str) -> bool:
    if not sentence.endswith((".", "!", "?")) or ">>>" in sentence:
        return False
    plain = sum(character.isalpha() or character == " " for character in sentence)
    return _FEWEST <= len(sentence.split()) <= _MOST and plain >= _LETTERS * len(sentence)


@final
class SentenceSet:
    """Pairs of neighbouring sentences as one tokenizer reads them.

    Args:
        pairs: all of them; those with a sentence of more tokens are left out, and counted.
        tokenizer: of student and teacher.
        max_length: the most tokens of a sentence.
        name: in messages.

    Raises:
        DataError: fewer than two pairs are left.
    """

    def __init__(
        self, pairs: Sequence[Pair], tokenizer: Any, max_length: int, *, name: str
    ) -> None:
        texts = [text for pair in pairs for text in (pair.first, pair.second)]
        # One list for all: a fast tokenizer's own threads.
        encoded = tokenizer(texts, verbose=False)["input_ids"] if texts else []
        fits = [
            max(len(encoded[2 * i]), len(encoded[2 * i + 1])) <= max_length
            for i in range(len(pairs))
        ]
        self.pairs = tuple(pair for pair, fit in zip(pairs, fits, strict=True) if fit)
        self.left_out = len(pairs) - len(self.pairs)
        self.ids = [
            np.array(encoded[2 * i + side]) for i, fit in enumerate(fits) if fit for side in (0, 1)
        ]
        self.lengths = np.array([len(ids) for ids in self.ids], dtype=np.int64)
        pad = tokenizer.pad_token_id
        self._pad = 0 if pad is None else int(pad)
        if len(self.pairs) < 2:
            raise DataError(
                f"the {name} part has {len(self.pairs)} pairs of neighbouring sentences",
                "a pair is told from others, so two are the least",
                "Give more text, or a larger `max_length`.",
            )

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def fingerprint(self) -> str:
        """Of every id of every sentence."""
        digest = hashlib.sha256(self.lengths.tobytes())
        digest.update(np.concatenate(self.ids).tobytes())
        return digest.hexdigest()

    def longest(self, pairs: NDArray[np.int64]) -> int:
        """Tokens of the longest sentence of some pairs."""
        return int(self.lengths.reshape(-1, 2)[pairs].max())

    def batch(self, pairs: NDArray[np.int64], length: int | None = None) -> Batch:
        """First and second sentence of each pair in turn; labels are the pairs' numbers.

        Padded on the right; `attention_mask` knows it by lengths alone.
        """
        rows = (2 * pairs[:, None] + np.arange(2)).flatten()
        shape = (len(rows), length or rounded(self.longest(pairs), 8))
        ids, there = np.full(shape, self._pad, np.int64), np.zeros(shape, np.int64)
        for at, row in enumerate(rows):
            ids[at, : self.lengths[row]], there[at, : self.lengths[row]] = self.ids[row], 1
        return Batch(
            {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(there)},
            labels=torch.from_numpy(rows // 2),
            ids=torch.from_numpy(rows),
        )


@final
class SentenceSource(Source):
    """Each step's batch: `batch` sentences, two by two neighbours, in a new order every epoch.

    Args:
        sentences: the training set.
        batch: sentences a step, over all ranks.
        width: numbers of an embedding of whoever learns.
        seed: decides the orders.

    Raises:
        DataError: a batch is no whole number of pairs, at least two.
    """

    def __init__(self, sentences: SentenceSet, *, batch: int, width: int, seed: int = 0) -> None:
        if batch < 4 or batch % 2:
            raise DataError(
                f"batch={batch}",
                "sentences come two by two, and a pair is told from at least one other",
                "Choose an even number, 4 or more.",
            )
        self.sentences, self._batch, self._seed, self._step = sentences, batch, seed, 0
        self.num_classes, self.num_examples = width, 2 * len(sentences)

    @property
    def labels(self) -> Int[Tensor, " b"]:
        """Each sentence's pair."""
        return torch.arange(self.num_examples) // 2

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every pair is drawn at least once."""
        return -(-len(self.sentences) // (self._batch // 2))

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """Pairs rank, rank + world, ... of the next step's, padded as on every other rank."""
        count = self._batch // 2
        if count % world:
            raise DataError(
                f"{count} pairs a step on {world} processes",
                "every process takes the same number of pairs",
                f"Choose a batch that is a multiple of {2 * world}.",
            )
        epochs, within = np.divmod(
            np.arange(self._step * count, (self._step + 1) * count), len(self.sentences)
        )
        every = np.arange(len(self.sentences))
        drawn = np.concatenate(
            [
                shuffled(every, self._seed, _ORDER, epoch)[within[epochs == epoch]]
                for epoch in np.unique(epochs).tolist()
            ]
        )
        self._step += 1
        length = rounded(self.sentences.longest(drawn), 8)
        return self.sentences.batch(drawn[rank::world], length)

    def sample(self, count: int = 2) -> Batch:
        """The first sentences; the stream stays in place."""
        pairs = np.arange(min(-(-count // 2), len(self.sentences)))
        return self.sentences.batch(pairs).rows(0, count)

    def state(self) -> dict[str, Any]:
        """The number of steps taken, and what the draws depend on."""
        return {"step": self._step, "draws": self._identity}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave; refuses the state of a source that draws otherwise."""
        if state["draws"] != self._identity:
            raise DataError(
                "the checkpoint's source has other sentences, another batch or seed",
                "going on from it would train on other draws than the run began with",
                "Start in a new folder, or restore the data and its options.",
            )
        self._step = state["step"]

    @property
    def _identity(self) -> str:
        said = (self._batch, self._seed, self.sentences.fingerprint)
        return hashlib.sha256(repr(said).encode()).hexdigest()
