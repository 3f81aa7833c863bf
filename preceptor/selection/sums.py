"""Sums of many small vectors by bucket, some hundred of them a call: calls are what they cost."""

from typing import final

from jaxtyping import Float
from torch import Tensor

from preceptor.ops.sketching import CountSketch, add_terms

_MOST = 1 << 16
"""Numbers that wait, while most of them are still in the cache."""


@final
class Sums:
    """What waits to be added to rooms."""

    def __init__(self) -> None:
        self.forget()

    def add(
        self, sketch: CountSketch, x: Float[Tensor, "b n"], room: Float[Tensor, "b two_k"]
    ) -> None:
        """Add a map of x to a room, at the latest when `finish` is called."""
        if not sketch.is_short:
            sketch.add(x, room)
            return
        self._there += sketch.places(room)
        self._runs += sketch.runs(x)
        self._factors += sketch.factors(room.dtype)
        self._waiting += x.numel()
        if self._waiting > _MOST:
            self.finish()

    def finish(self) -> None:
        """Add all that waits."""
        if self._there:
            add_terms(self._there, self._runs, self._factors)
        self.forget()

    def forget(self) -> None:
        """Leave what waits, as of a pass that ended early."""
        self._there: list[Tensor] = []
        self._runs: list[Tensor] = []
        self._factors: list[Tensor] = []
        self._waiting = 0
