"""Student-written responses only as far as they help, and used more than once.

Jongwoo Ko, Sungnyun Kim, Tianyi Chen, Se-Young Yun. "DistiLLM: Towards Streamlined Distillation
for Large Language Models". ICML, 2024.
"""

from collections import deque
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from preceptor.data.counter import shuffled
from preceptor.data.text_source import TextSource
from preceptor.synthesis.prompted import Prompted, composed, interleaved, mine
from preceptor.synthesis.writers import Writer
from preceptor.types import Batch

_REPLAY = 7
_Written = tuple[int, list[int]]
"""An example and the response that the student once wrote to it."""


@final
class AdaptiveRollouts(Prompted):
    """The adaptive off-policy schedule, with replay.

    phi starts at 0. A step's batch is written by the student, and kept, with probability
    phi (1 - t/T); it is replayed from what was kept with the rest of phi (written, where less than
    a batch is kept); else it is the data's. `observe` moves phi.

    Args:
        source: gives prompts, and the data's responses.
        student: writes as the student does now.
        steps: T, the steps of the stage.
        rise: what phi gains when the validation loss has risen; it stops at 1.
        tolerance: how far above its last mark the validation loss must be to count as risen.
        capacity: the rows that are kept, the oldest leave.
        seed: of coins, of what is written and of what is replayed.
    """

    def __init__(
        self,
        source: TextSource,
        student: Writer,
        *,
        steps: int,
        rise: float = 0.1,
        tolerance: float = 0.1,
        capacity: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(source, seed)
        self._student, self._steps = student, steps
        self._rise, self._tolerance, self._capacity = rise, tolerance, capacity
        self.phi = 0.0
        self._mark: float | None = None
        self._kept: deque[_Written] = deque(maxlen=capacity)

    def observe(self, validation_loss: float) -> None:
        """Take note of a validation: the first sets the mark, a rise above it raises phi.

        Every rank is told the same number.
        """
        if self._mark is None:
            self._mark = validation_loss
        elif validation_loss >= self._mark + self._tolerance:
            self.phi = min(1.0, self.phi + self._rise)
            self._mark = validation_loss

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """This rank's rows of the next step's batch."""
        step = self.source.step
        data = self.source.take(rank, world)
        coin, ids = self._coin(step), self.source.drawn(step)
        if coin >= self.phi:
            return data
        fresh = coin < self.phi * (1 - step / self._steps)
        if fresh or len(self._kept) < len(ids):
            written = self._write(step, ids, rank, world)
        else:
            written = self._replayed(step, len(ids), rank, world)
        own = np.array([example for example, _ in written], dtype=np.int64)
        return composed(self.texts, own, [response for _, response in written], "student")

    def _write(self, step: int, ids: NDArray[np.int64], rank: int, world: int) -> list[_Written]:
        own, places = mine(ids, rank, world), mine(np.arange(len(ids)), rank, world)
        found = self._student(self.texts.prompts(own), self._seeds(step, places))
        written = [(i, r.tolist()) for i, r in zip(own.tolist(), found.ids, strict=True)]
        self._kept.extend(interleaved(written))
        return written

    def _replayed(self, step: int, count: int, rank: int, world: int) -> list[_Written]:
        order = shuffled(np.arange(len(self._kept)), self.seed, _REPLAY, step)[:count]
        return [self._kept[place] for place in mine(order, rank, world)]

    def _settings(self) -> object:
        return (self._steps, self._rise, self._tolerance, self._capacity)

    def _held(self) -> dict[str, Any]:
        return {"phi": self.phi, "mark": self._mark, "kept": [list(each) for each in self._kept]}

    def _take_back(self, held: dict[str, Any]) -> None:
        self.phi, self._mark = held["phi"], held["mark"]
        self._kept = deque(((i, list(r)) for i, r in held["kept"]), maxlen=self._capacity)
