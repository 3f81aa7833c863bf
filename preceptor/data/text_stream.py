"""Training batches of rows that do not fit into memory: read as they are needed, never held."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.chat import Rendering
from preceptor.data.collate import Example, collated, rounded
from preceptor.data.counter import shuffled
from preceptor.data.packing import packed_alike
from preceptor.data.rows import Row
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.errors import DataError
from preceptor.types import Batch

_BLOCK = 5


@dataclass(frozen=True)
class _Place:
    """Where the stream stands: at example `within` of a block that follows so many rows."""

    turn: int = 0
    rows: int = 0
    examples: int = 0
    within: int = 0


class _Block(NamedTuple):
    """Rows that are rendered and shuffled together, and the place of the first of them."""

    place: _Place
    texts: TextSet | None
    order: NDArray[np.int64]
    next: _Place


@final
class TextStream(Source):
    """Each step's batch: the next `batch` examples of rows that are read as they are needed.

    Rows are read, rendered and shuffled a block at a time; where they end they begin anew. The
    order is a function of the seed and of the rows' own order alone. A resumed run reads past the
    rows that were used up. A row that cannot be rendered is refused when it is reached.

    An example's id is its number in a pass over the rows, the same in every pass.

    Args:
        rows: iterated from its beginning in each pass (`RowStream`, a list; not a generator).
        rendering: how the student reads them.
        teacher: how the teacher does, where that differs.
        batch: examples a step, over all ranks.
        steps_per_epoch: how many steps are called an epoch, since nobody knows the rows' number.
        block: rows that are read and shuffled together.
        seed: decides the orders.
        pack: tokens of a sequence into which several examples are packed, or None for one example
            a sequence. The examples of a step are the same either way.

    Raises:
        DataError: the rows can be read only once; an example may not fit into a sequence.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        rendering: Rendering,
        teacher: Rendering | None = None,
        *,
        batch: int,
        steps_per_epoch: int,
        block: int = 1024,
        seed: int = 0,
        pack: int | None = None,
    ) -> None:
        if pack is not None and pack < rendering.max_length:
            raise DataError(
                f"examples of up to {rendering.max_length} tokens",
                f"they are packed into sequences of {pack}",
                "Pack into longer sequences, or lower max_length.",
            )
        if isinstance(rows, Iterator):
            raise DataError(
                "the rows of a stream are an iterator",
                "it can be read once, and the next pass or a resumed run reads it again",
                "Give what can be iterated from its beginning: a RowStream, or a list.",
            )
        self._rows, self._rendering, self._teacher = rows, rendering, teacher
        self._batch, self._block, self._seed, self._pack = batch, block, seed, pack
        self._steps_per_epoch = steps_per_epoch
        self.num_classes, self.num_examples = rendering.vocabulary, 0
        self._place = _Place()
        self._blocks = self._read(self._place)
        self._held: _Block | None = None

    @property
    def labels(self) -> Int[Tensor, " b"]:
        """None: a text has no class."""
        return torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        """What was said."""
        return self._steps_per_epoch

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """Rows rank, rank + world, ... of the next step's batch, padded as on every other rank."""
        if self._batch % world:
            raise DataError(
                f"batch={self._batch} on {world} processes",
                "every process takes the same number of examples",
                f"Choose a multiple of {world}.",
            )
        every = [self._next() for _ in range(self._batch)]
        own = every[rank::world]
        if self._pack is None:
            return self._collated(every, own)
        lengths, theirs = _lengths(every), _teacher_lengths(every)
        alone = self._collated(own, own)
        return packed_alike(alone, lengths, theirs, room=self._pack, rank=rank, world=world)

    def sample(self, count: int = 2) -> Batch:
        """The first examples of the rows; the stream stays in place."""
        every: list[Example] = []
        for block in self._read(_Place()):
            if block.place.turn or len(every) >= count:
                break
            if block.texts is not None:
                every += [block.texts.example(i) for i in range(len(block.texts))]
        if len(every) < count:
            raise DataError(
                f"a sample of {count} examples was asked for",
                f"the rows make {len(every)}",
                "Ask for fewer, or add rows.",
            )
        return self._collated(every[:count], every[:count])

    def state(self) -> dict[str, Any]:
        """Where the stream stands, and what its order depends on."""
        return {"place": asdict(self._place), "draws": self._identity()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave; refuses the state of a stream that draws otherwise."""
        if list(state["draws"]) != self._identity():
            raise DataError(
                f"the checkpoint's stream has batch, block, seed, pack {state['draws']}",
                f"this one has {self._identity()}, and would draw other examples",
                "Start in a new folder, or restore the options.",
            )
        self._place = _Place(**state["place"])
        self._blocks, self._held = self._read(replace(self._place, within=0)), None

    def _identity(self) -> list[int | None]:
        return [self._batch, self._block, self._seed, self._pack]

    def _next(self) -> Example:
        """The next example, with its number in the pass as its row."""
        while self._held is None or self._place.within >= len(self._held.order):
            if self._held is not None:
                self._place = self._held.next
            self._held = next(self._blocks)
        held, index = self._held, int(self._held.order[self._place.within])
        assert held.texts is not None
        self._place = replace(self._place, within=self._place.within + 1)
        return replace(held.texts.example(index), row=held.place.examples + index)

    def _read(self, place: _Place) -> Iterator[_Block]:
        """Blocks from a place on, pass after pass."""
        found = place.examples
        while True:
            rows = islice(iter(self._rows), place.rows, None)
            while read := tuple(islice(rows, self._block)):
                block = self._rendered(read, place)
                found += len(block.order)
                yield block
                place = block.next
            if not found:
                raise DataError(
                    "the stream gave no example",
                    f"{place.rows} rows were read, and none fits into the context"
                    if place.rows
                    else "it has no rows",
                    "Give rows, or a larger max_length.",
                )
            place = _Place(place.turn + 1)

    def _rendered(self, rows: tuple[Row, ...], place: _Place) -> _Block:
        able = [row for row in rows if self._rendering.pieces(row)]
        texts = TextSet(able, self._rendering, self._teacher, name="streamed") if able else None
        count = len(texts) if texts is not None else 0
        order = shuffled(np.arange(count), self._seed, _BLOCK, place.turn, place.rows)
        after = _Place(place.turn, place.rows + len(rows), place.examples + count)
        return _Block(place, texts, order, after)

    def _collated(self, every: list[Example], own: list[Example]) -> Batch:
        teacher, theirs = self._teacher or self._rendering, _teacher_lengths(every)
        return collated(
            own,
            pad=self._rendering.pad,
            teacher_pad=teacher.pad,
            length=rounded(int(_lengths(every).max()), 8),
            teacher_length=None if theirs is None else rounded(int(theirs.max()), 8),
        )


def _lengths(examples: list[Example]) -> NDArray[np.int64]:
    return np.array([len(example.ids) for example in examples], np.int64)


def _teacher_lengths(examples: list[Example]) -> NDArray[np.int64] | None:
    """Tokens of each example as the teacher sees it; None where it sees the same."""
    if all(example.teacher is None for example in examples):
        return None
    seen = [example.ids if example.teacher is None else example.teacher.ids for example in examples]
    return np.array([len(ids) for ids in seen], np.int64)
