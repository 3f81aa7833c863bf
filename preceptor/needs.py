"""What is read and what is given: one type for both, compared before any training."""

from dataclasses import dataclass
from typing import Literal

Per = Literal["position", "example", "batch"]
"""What one number of a term is about."""

Kind = Literal["logits", "probabilities", "bins", "draws", "chunks"]
"""What a teacher's distribution can be read as: raw logits; the probability of every class; of the
largest classes with the mass of the rest (bins); draws from it; or the probability of each stretch
of bytes between places where two tokenisations meet (chunks). Whoever gives probabilities gives
bins and chunks, and a loss on bins that is linear in the teacher is unbiased on draws."""

WORDS: dict[Kind, str] = {
    "logits": "logits",
    "probabilities": "probabilities of every class",
    "bins": "probabilities",
    "draws": "draws from probabilities",
    "chunks": "probabilities of aligned chunks of bytes",
}
"""How a sentence names each kind that is read."""
_GIVEN: dict[Kind, str] = {**WORDS, "bins": "probabilities of the largest classes"}
"""The same of who gives it."""

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


@dataclass(frozen=True)
class Needs:
    """What an objective reads, or what a teacher offers: the same type on both sides.

    Args:
        kinds: an objective names the one it reads; a teacher all that it gives.
        temperatures: an objective's own; of a teacher the only ones it answers at, empty for any.
        student_taps, teacher_taps: module names; a teacher that shows any module offers "*", an
            objective whose layers are not settled yet reads "auto".
        student_head, teacher_head: the linear classifier.
        labels, ids: the batch's.
        masks, extra: names of the batch's further masks and tensors.
        scope: what one number of a term is about. "batch" terms compare examples with one another:
            their batch is never split, and is gathered over ranks.
        linear: the loss is linear in the teacher's probabilities, so that sampled targets leave
            its expectation unchanged.
        foreign: what is read of the teacher makes sense where its vocabulary is another one.
    """

    kinds: frozenset[Kind] = frozenset()
    temperatures: frozenset[float] = frozenset()
    student_taps: frozenset[str] = frozenset()
    teacher_taps: frozenset[str] = frozenset()
    student_head: bool = False
    teacher_head: bool = False
    labels: bool = False
    ids: bool = False
    masks: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()
    scope: Per = "position"
    linear: bool = True
    foreign: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        order: tuple[Per, ...] = ("position", "example", "batch")
        wider = order[max(order.index(self.scope), order.index(other.scope))]
        return Needs(
            kinds=self.kinds | other.kinds,
            temperatures=self.temperatures | other.temperatures,
            student_taps=self.student_taps | other.student_taps,
            teacher_taps=self.teacher_taps | other.teacher_taps,
            student_head=self.student_head or other.student_head,
            teacher_head=self.teacher_head or other.teacher_head,
            labels=self.labels or other.labels,
            ids=self.ids or other.ids,
            masks=self.masks | other.masks,
            extra=self.extra | other.extra,
            scope=wider,
            linear=self.linear and other.linear,
            foreign=all(side.foreign or not side.reads_teacher() for side in (self, other)),
        )

    def reads_teacher(self) -> bool:
        """Whether anything is read of the teacher."""
        return bool(self.kinds or self.teacher_taps or self.teacher_head)

    def unmet_by(self, offers: "Needs") -> tuple[str, ...]:
        """What is read here and not given there, each as the rest of a sentence."""
        unmet: list[str] = []
        ungiven: list[Kind] = sorted(kind for kind in self.kinds if not self._is_met(kind, offers))
        if ungiven:
            gives = " and ".join(_GIVEN[kind] for kind in sorted(offers.kinds)) or "no distribution"
            biased = "bins" in ungiven and offers.kinds == {"draws"}
            why = " (it is not linear in the teacher, so draws would bias it)" if biased else ""
            reads = " and ".join(WORDS[kind] for kind in ungiven)
            unmet.append(f"it reads {reads}, given: {gives}{why}")
        others = self.temperatures - offers.temperatures
        if self.kinds and offers.temperatures and others:
            given = ", ".join(f"{t:g}" for t in sorted(offers.temperatures))
            unmet.append(f"it reads temperature {min(others):g}, given: {given} alone")
        if "*" not in offers.teacher_taps and self.teacher_taps - offers.teacher_taps:
            names = ", ".join(sorted(self.teacher_taps - offers.teacher_taps))
            unmet.append(f"it reads the teacher's layers ({names}), which are not shown")
        if self.teacher_head and not offers.teacher_head:
            unmet.append("it reads the teacher's classifier, which is not shown")
        return tuple(unmet)

    def _is_met(self, kind: Kind, offers: "Needs") -> bool:
        if kind == "bins" and (
            "probabilities" in offers.kinds or (self.linear and "draws" in offers.kinds)
        ):
            return True
        if kind == "chunks" and "probabilities" in offers.kinds:
            return True
        return kind in offers.kinds


def named_masks(over: str) -> frozenset[str]:
    """The mask of the batch's own that is counted over, if it is one.

    >>> sorted(named_masks("all")), sorted(named_masks("student_written"))
    ([], ['student_written'])
    """
    return frozenset({over}) - {"all", "labelled"}
