"""An encoder's answers that were written to disk once, read back by example."""

from typing import final

from preceptor.errors import NeedsError
from preceptor.teachers.base import Teacher
from preceptor.teachers.store import Store
from preceptor.types import Batch, Needs, Signal


@final
class CachedEmbeddings(Teacher):
    """A store of embeddings as a teacher that shows one layer: the encoder's last.

    Each row is found by the batch's `ids`. An id that the store does not hold raises `NeedsError`.

    Args:
        store: what an encoder answered, one embedding an example.
        tap: the layer's name.
    """

    def __init__(self, store: Store, tap: str) -> None:
        self.store, self.tap = store, tap

    def offers(self) -> Needs:
        """The one layer."""
        return Needs(teacher_taps=frozenset({self.tap}))

    def reading(self, taps: frozenset[str]) -> "CachedEmbeddings":
        """Itself, which shows nothing else."""
        if taps - {self.tap}:
            raise NeedsError(
                f"the layers {', '.join(sorted(taps - {self.tap}))} of a cached encoder",
                f"its {self.tap!r} alone was kept",
                "Use the teacher without `cached`.",
            )
        return self

    def signal(self, batch: Batch) -> Signal:
        """The stored rows."""
        rows = self.store.read(batch.ids, batch.view).to(batch.ids.device)
        return Signal(None, {self.tap: rows})
