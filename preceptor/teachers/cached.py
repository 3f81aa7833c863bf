"""Signals that were written to disk once, read back by example and view."""

from typing import final

from preceptor.teachers.base import Teacher
from preceptor.teachers.store import Store
from preceptor.types import Batch, Dense, Needs, Signal


@final
class Cached(Teacher):
    """A store of logits as a teacher: the live teacher's answers at any temperature.

    Each row is found by the batch's `ids` and `view`, so shuffling, workers and the number of
    processes change nothing. Augmentation changes nothing either, as long as the same view number
    means the same pixels as when the store was written. Features and classifier are not stored.

    An id or view that the store does not hold raises `NeedsError`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def offers(self) -> Needs:
        """Raw logits at any temperature."""
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    def signal(self, batch: Batch) -> Signal:
        """The stored rows."""
        ids = batch.ids
        return Signal(Dense(self.store.read(ids, batch.view).to(ids.device)))
