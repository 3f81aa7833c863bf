"""Which layers a method compares: pairs of module names, or "auto" until training starts."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, final

from preceptor.types import Needs

Pair = tuple[str, str]
"""A student's module name and a teacher's, as `models.taps` reads them."""

Layers = tuple[Pair, ...] | Literal["auto"]
"""Which layers are compared; "auto" is settled once, before training, by `models.pairing`."""

LayerKind = Literal[
    "stages",
    "middle",
    "last_map",
    "embedding",
    "hidden",
    "attention",
    "relations",
    "flow",
    "table",
]
"""What "auto" looks for: every stage's output map, the middle stage's, the last map before
pooling, the embedding (a classifier's input, an encoder's answer), transformer blocks' outputs,
attention maps, one block's queries, keys and values, the input and output of each stage (two
pairs a stage, first the stage's entry, then its exit), or where the student's tokens come in."""

Pairing = Literal["uniform", "last", "similar"]
"""Which blocks meet: evenly spread ones, the last ones, or those that see most alike."""


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
