"""Which layers of a student are compared with which of a teacher, where nobody says so."""

from collections.abc import Sequence
from itertools import combinations
from math import log2
from typing import TypeVar

from torch import Tensor

from preceptor.errors import ModelError
from preceptor.models.alike import in_order, similarities
from preceptor.models.anatomy import Anatomy, Spot, Stage, anatomy, projections
from preceptor.models.encoders import EMBEDDING, SentenceEncoder
from preceptor.models.shapes import visits
from preceptor.models.tapped import TappedModel
from preceptor.needs import LayerKind, Pairing
from preceptor.types import Inputs, map_tensors

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]
Layers = tuple[Sequence[Spot], Sequence[Spot]]


def pair_layers(
    student: TappedModel,
    teacher: TappedModel,
    inputs: Inputs,
    kind: LayerKind,
    pairing: Pairing = "uniform",
    pairs: int | None = None,
    teacher_block: int = -1,
) -> Pairs:
    """Pairs of taps (student's, teacher's), from the input to the output.

    Args:
        student, teacher: give the same model twice for taps within one model.
        inputs: two examples suffice, but for "similar"; both models see them, and nothing in
            either changes.
        kind:
            "stages": each stage's output, matched in order by resolution and depth (transformers:
            each block's).
            "middle": the middle one of those pairs.
            "last_map": the last map before global pooling (transformers: the last block's output).
            "embedding": the linear classifiers' inputs; of encoders what they answer with.
            "hidden": transformer blocks' outputs.
            "attention": blocks' attention maps.
            "relations": queries, keys and values of the student's last block and of one of the
            teacher's.
            "flow": each stage's input, then its output; their channels must be equal.
            "table": the student's token embedding, which is compared with itself.
        pairing: of "hidden" and "attention": "uniform" takes blocks spread evenly over both
            models, whose last ones meet; "last" the last blocks of both; "similar" the pairs, in
            order, whose centered kernel alignment on the inputs adds up to the most.
        pairs: how many; where None, as many as the shallower model has.
        teacher_block: of "relations", which of the teacher's blocks, counted as Python does.

    Errors:
        ModelError: a model does not show what is asked for, or the two show different things.
    """
    if kind == "embedding":
        return ((_embedding(student, "student"), _embedding(teacher, "teacher")),)
    if kind == "table":
        own = token_table(student)
        return ((own, own),)
    two = map_tensors(inputs, lambda tensor: tensor[:2])
    ours, theirs = anatomy(student, two), anatomy(teacher, two)
    if kind in ("hidden", "attention"):
        layers = _attention(ours, theirs) if kind == "attention" else _blocks(ours, theirs, kind)
        count = _count(pairs, layers)
        if pairing == "similar":
            return _similar(student, teacher, layers, inputs, count)
        return _spread(*layers, count) if pairing == "uniform" else _last(*layers, count)
    if kind == "relations":
        mine, others = _blocks(ours, theirs, kind)
        return tuple(
            zip(
                projections(student, mine[-1].tap, "student"),
                projections(teacher, _nth_block(others, teacher_block), "teacher"),
                strict=True,
            )
        )
    if kind != "flow" and ours.blocks and theirs.blocks:
        found = _spread(*_blocks(ours, theirs, kind))
    else:
        stages = _shown(ours.stages, ours, "student", "maps [B, C, H, W]", kind)
        matched = _matched(
            stages, _shown(theirs.stages, theirs, "teacher", "maps [B, C, H, W]", kind)
        )
        if kind == "flow":
            return _flow(matched)
        if kind == "last_map":
            return ((ours.stages[-1].exit.tap, theirs.stages[-1].exit.tap),)
        found = tuple((one.exit.tap, other.exit.tap) for one, other in matched)
    if kind == "middle":
        return (found[(len(found) - 1) // 2],)
    return found[-1:] if kind == "last_map" else found


def describe(
    pairs: Pairs, student: TappedModel, teacher: TappedModel, inputs: Inputs
) -> tuple[str, ...]:
    """One line a pair: both taps with their shapes."""
    ours = student.reading(frozenset(one for one, _ in pairs))
    theirs = teacher.reading(frozenset(other for _, other in pairs))
    mine, others = visits(ours, inputs)[0].taps, visits(theirs, inputs)[0].taps
    return tuple(
        f"student {one} {_words(mine[one])} ~ teacher {other} {_words(others[other])}"
        for one, other in pairs
    )


def token_table(model: TappedModel) -> str:
    """The name of the module that turns tokens into vectors.

    Errors:
        ModelError: the model does not say which.
    """
    for holder in model.module.modules():
        table = getattr(holder, "get_input_embeddings", lambda: None)()
        for name, module in model.module.named_modules():
            if module is table:
                return name
    raise ModelError(
        f"the token embedding of a {type(model.module).__name__} was asked for",
        "none of its parts says what turns its tokens into vectors",
        "Name it with `layers`, or leave out what reads it.",
    )


def _embedding(model: TappedModel, who: str) -> str:
    if isinstance(model.module, SentenceEncoder):
        return EMBEDDING
    if not model.has_head():
        raise ModelError(
            f"the {who}'s embedding was to be compared",
            "no linear classifier was found in it, and the embedding is what that one reads",
            "Name the classifier with `head`, or the layers with `layers`.",
        )
    return f"{model.head_name}:input"


def _shown(found: Sequence[T], of: Anatomy, who: str, what: str, kind: LayerKind) -> Sequence[T]:
    """What was found, or a sentence that says what the model shows instead."""
    if found:
        return found
    if of.stages:
        instead = f"maps, such as {list(of.stages[-1].exit.shape)} at {of.stages[-1].exit.tap!r}"
    elif of.blocks:
        instead = f"tokens, such as {list(of.blocks[-1].shape)} at {of.blocks[-1].tap!r}"
    else:
        instead = "neither maps nor tokens"
    raise ModelError(
        f"layers of the kind {kind!r} were looked for",
        f"the {who} does not show {what}; it shows {instead}",
        "Name the layers with `layers`, or use a method that compares embeddings or logits.",
    )


def _blocks(student: Anatomy, teacher: Anatomy, kind: LayerKind) -> Layers:
    row = "a row of transformer blocks"
    mine = _shown(student.blocks, student, "student", row, kind)
    return mine, _shown(teacher.blocks, teacher, "teacher", row, kind)


def _count(pairs: int | None, layers: Layers) -> int:
    fewer = min(map(len, layers))
    if pairs is not None and pairs > fewer:
        raise ModelError(
            f"{pairs} pairs of blocks were asked for",
            f"the student has {len(layers[0])} and the teacher {len(layers[1])}",
            f"Ask for {fewer} or fewer.",
        )
    return pairs or fewer


def _nth_block(blocks: Sequence[Spot], number: int) -> str:
    if not -len(blocks) <= number < len(blocks):
        raise ModelError(
            f"the teacher's block {number} was asked for",
            f"it has {len(blocks)} blocks, the first of which is 0 and the last -1",
            "Name one that there is.",
        )
    return blocks[number].tap


def _spread(student: Sequence[Spot], teacher: Sequence[Spot], count: int | None = None) -> Pairs:
    """Evenly over both; as many as the shallower has layers; the last two meet."""
    count = count or min(len(student), len(teacher))
    return tuple(
        (student[_nth(number, count, student)].tap, teacher[_nth(number, count, teacher)].tap)
        for number in range(1, count + 1)
    )


def _last(student: Sequence[Spot], teacher: Sequence[Spot], count: int) -> Pairs:
    ends = zip(student[-count:], teacher[-count:], strict=True)
    return tuple((one.tap, other.tap) for one, other in ends)


def _similar(
    student: TappedModel, teacher: TappedModel, layers: Layers, inputs: Inputs, count: int
) -> Pairs:
    mine, others = ([spot.tap for spot in each] for each in layers)
    alike = similarities(student, teacher, (mine, others), inputs)
    return tuple((mine[i], others[j]) for i, j in in_order(alike, count))


def _nth(number: int, count: int, layers: Sequence[Spot]) -> int:
    return -(-number * len(layers) // count) - 1


def _matched(student: Sequence[Stage], teacher: Sequence[Stage]) -> tuple[tuple[Stage, Stage], ...]:
    """All stages of the one that has fewer, in order, where resolution and depth differ least.

    A factor of two in resolution weighs as much as the whole depth. There are only a handful of
    stages, so every choice is tried.
    """
    if len(student) > len(teacher):
        return tuple((one, other) for other, one in _matched(teacher, student))
    choices = combinations(teacher, len(student))
    best = min(choices, key=lambda chosen: sum(map(_distance, student, chosen)))
    return tuple(zip(student, best, strict=True))


def _distance(one: Stage, other: Stage) -> float:
    (a, b), (c, d) = one.exit.shape[2:], other.exit.shape[2:]
    return abs(log2(a * b / (c * d))) / 2 + abs(one.exit.depth - other.exit.depth)


def _attention(student: Anatomy, teacher: Anatomy) -> Layers:
    for who, found in (("student", student), ("teacher", teacher)):
        if not found.attention:
            raise ModelError(
                "attention maps were looked for",
                f"no module of the {who} returns any ([B, heads, T, T])",
                "Use a transformer; one of the transformers library shows them where its model "
                "says `attention: eager`, one of timm with TIMM_FUSED_ATTN=0 in the environment.",
            )
    one, other = student.attention[-1], teacher.attention[-1]
    if one.shape[2] != other.shape[2]:
        raise ModelError(
            f"attention maps of {one.shape[2]} and {other.shape[2]} tokens were to be compared",
            "each token's attention needs its counterpart",
            "Use models that cut the image into equally many patches.",
        )
    return student.attention, teacher.attention


def _flow(matched: Sequence[tuple[Stage, Stage]]) -> Pairs:
    pairs: list[tuple[str, str]] = []
    for one, other in matched:
        if one.entry is None or other.entry is None:
            continue  # A stage that reads the pixels has no map to come from.
        for mine, others in ((one.entry, other.entry), (one.exit, other.exit)):
            if mine.shape[1] != others.shape[1]:
                raise ModelError(
                    f"the flow through the student's {mine.tap!r} ({mine.shape[1]} channels) and "
                    f"the teacher's {others.tap!r} ({others.shape[1]}) was to be compared",
                    "a flow matrix has a row or column a channel: both need equally many",
                    "Use a teacher of the student's widths, or name fitting `layers`.",
                )
            pairs.append((mine.tap, others.tap))
    if not pairs:
        raise ModelError(
            "layers of the kind 'flow' were looked for",
            "no stage takes in a map in both models",
            "Name the layers with `layers`.",
        )
    return tuple(pairs)


def _words(tensor: Tensor) -> str:
    return str(list(tensor.shape))
