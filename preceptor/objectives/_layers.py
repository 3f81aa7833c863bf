"""Which layers a method compares: pairs of module names, or "auto" until training starts."""

import dataclasses
from typing import Literal

from preceptor.types import Needs

Pair = tuple[str, str]
"""A student's module name and a teacher's, as `models.taps` reads them."""

Layers = tuple[Pair, ...] | Literal["auto"]
"""Which layers are compared; "auto" is settled once, before training, by `models.pairing`."""

LayerKind = Literal["stages", "middle", "last_map", "embedding", "hidden", "attention", "flow"]
"""What "auto" looks for: every stage's output map, the middle stage's, the last map before
pooling, the classifier's input, transformer blocks' outputs, attention maps, or the input and
output of each stage (two pairs a stage, first the stage's entry, then its exit)."""


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
