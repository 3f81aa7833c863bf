"""No teacher: for control arms, and for methods that learn from labels or from themselves."""

from typing import final

from preceptor.teachers.base import Teacher
from preceptor.types import Batch, Needs, Signal


@final
class Nobody(Teacher):
    """Offers nothing and answers with an empty signal."""

    def offers(self) -> Needs:
        """Nothing."""
        return Needs()

    def signal(self, batch: Batch) -> Signal:
        """An empty signal."""
        del batch
        return Signal()
