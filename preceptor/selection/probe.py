"""How features were taken: what must agree before two candidates may be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal, final

from annotated_types import Ge

from preceptor.errors import NeedsError
from preceptor.fields import Count, check_ranges

Kind = Literal["exact", "factored", "head"]
"""Which gradient is sketched how: per-example, inside each layer's backward, or the head's alone"""

Projection = Literal["signs", "counts"]
"""Of exact gradients: dense random signs, d products a number; or buckets, one sum a number."""


@final
@dataclass(frozen=True)
class Probe:
    """The settings of one pass over the student; candidates differ in their text alone.

    Args:
        student: the fingerprint of the student's weights, and of which of them are learned.
        data: the fingerprint of the prompts, as this student sees them.
        kind: how the gradients are sketched.
        dimension: d, numbers a sketch.
        parameters: D, how many of the student's parameters the gradient is taken of.
        seed: of the projection.
        details: further settings that change the numbers (precision, a layer's inner sketch).
    """

    student: str
    data: str
    kind: Kind
    dimension: Count
    parameters: Count
    seed: Annotated[int, Ge(0)] = 0
    details: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def published_scale(self) -> float:
        """d / D: times it, scores of squared gradients have the size that papers print.

        There the projection's entries are +-1 / sqrt(D), so that sketches shrink by sqrt(d / D);
        ours are isometric. For one student this changes no order.
        """
        return self.dimension / self.parameters

    def expect(self, other: "Probe", whose: str) -> None:
        """Raises `NeedsError` where `other`, which `whose` names, was taken in another way."""
        for name in (each.name for each in fields(self)):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise NeedsError(
                    f"{whose} has {name} {theirs}",
                    f"the features beside it have {name} {ours}, and sketches of different "
                    "passes have nothing in common",
                    "Take both with the same student, prompts, projection and dimension.",
                )
