"""Numbers that move with training: a weight that ramps up, down or along a cosine."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from preceptor.errors import RecipeError
from preceptor.fields import NonNegative, check_ranges
from preceptor.types import Progress


@dataclass(frozen=True)
class Ramp:
    """A weight that goes from `start` to `end` over the first part of a stage, then stays.

    Args:
        start: the value at step 0.
        end: the value from the end of the ramp on.
        over: the ramp's length, as a fraction of the stage where `unit` is "stage", in epochs
            where it is "epochs".
        unit: what `over` counts.
        shape: a straight line, or half a cosine.
    """

    start: NonNegative = 0.0
    end: NonNegative = 1.0
    over: NonNegative = 1.0
    unit: Literal["stage", "epochs"] = "stage"
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        check_ranges(self)

    def at(self, progress: Progress) -> float:
        """The value at a moment of training.

        >>> Ramp(start=0, end=2, over=0.5).at(Progress(step=25, steps=100))
        1.0
        """
        passed = progress.fraction if self.unit == "stage" else progress.epoch
        share = 1.0 if self.over == 0 else min(1.0, passed / self.over)
        if self.shape == "cosine":
            share = 0.5 - 0.5 * math.cos(math.pi * share)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Auto:
    """A weight found by the loop: the method's part of the gradient is to be `share`.

    In the first steps the loop measures each method's gradient, sets the weight so that its norm
    is `share` of the sum of all norms, then keeps it and prints it.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise RecipeError(
                f"Auto(share={self.share})",
                "a share of the gradient lies between 0 and 1, both excluded",
                "Use for example 0.5.",
            )


def product(inner: float | Ramp | Auto, outer: float | Ramp | Auto) -> float | Ramp | Auto:
    """One weight in place of one inside another; raises where there is none."""
    if isinstance(inner, int | float) and isinstance(outer, int | float):
        return inner * outer
    for moving, fixed in ((inner, outer), (outer, inner)):
        if isinstance(moving, Ramp) and isinstance(fixed, int | float):
            return replace(moving, start=moving.start * fixed, end=moving.end * fixed)
        if isinstance(moving, Auto) and fixed == 1:
            return moving
    raise RecipeError(
        f"{outer} times {inner}",
        "a weight found by the loop has no other factor, and two moving weights have no product",
        "Give each method one weight.",
    )
