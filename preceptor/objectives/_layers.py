"""Which layers a method compares: pairs of module names, or "auto" until training starts."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, final

from preceptor.needs import LayerKind, Needs, Pairing

Pair = tuple[str, str]
"""A student's module name and a teacher's, as `models.taps` reads them."""

Layers = tuple[Pair, ...] | Literal["auto"]
"""Which layers are compared; "auto" is settled once, before training, by `models.pairing`."""


@final
@dataclass(frozen=True)
class Choice:
    """What a method asks for where it says "auto".

    Args:
        kind: what is looked for.
        pairing: which blocks meet.
        pairs: how many; where None, as many as the shallower model has.
        teacher_block: of "relations", the teacher's block, counted as Python does.
    """

    kind: LayerKind
    pairing: Pairing = "uniform"
    pairs: int | None = None
    teacher_block: int = -1


def pair_needs(layers: Layers, needs: Needs) -> Needs:
    """`needs` with the taps that `layers` names; "auto" on both sides while not settled."""
    if layers == "auto":
        both = frozenset({"auto"})
        return dataclasses.replace(needs, student_taps=both, teacher_taps=both)
    return dataclasses.replace(
        needs,
        student_taps=needs.student_taps | {student for student, _ in layers},
        teacher_taps=needs.teacher_taps | {teacher for _, teacher in layers},
    )
