"""Small random worlds: an objective with exactly what its `needs()` names, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from preceptor.errors import NeedsError
from preceptor.objectives.base import Choice, LayerKind, Layers, Objective
from preceptor.objectives.reduction import total
from preceptor.types import (
    Batch,
    Context,
    Dense,
    Head,
    Needs,
    Outputs,
    Progress,
    Signal,
    Terms,
    map_tensors,
)

Taps = Mapping[str, Mapping[str, tuple[int, ...]]]
"""For "student" and "teacher": the taps' names, with the shape of one example."""

_EXAMPLES, _ALL_IDS, _TOKENS = 8, 24, 9
_UNLABELLED, _MASKED = (1, 5), 3
_MAPS = {"student": ((4, 6, 6), (6, 4, 4)), "teacher": ((5, 5, 5), (7, 3, 3))}
_SHAPES: dict[LayerKind, dict[str, tuple[tuple[int, ...], ...]]] = {
    "stages": _MAPS,
    # Flow matrices are compared entry by entry: equal channels.
    "flow": {"student": _MAPS["student"], "teacher": ((4, 5, 5), (6, 3, 3))},
    "middle": {"student": ((4, 6, 6),), "teacher": ((5, 5, 5),)},
    "last_map": {"student": ((6, 4, 4),), "teacher": ((7, 3, 3),)},
    "embedding": {"student": ((6,),), "teacher": ((7,),)},
    "hidden": {"student": ((4, 6), (4, 6)), "teacher": ((4, 7), (4, 7))},
    "attention": {"student": ((2, 4, 4), (2, 4, 4)), "teacher": ((4, 4, 4), (4, 4, 4))},
    # Queries, keys and values; widths that the paper's number of heads divides.
    "relations": {"student": ((4, 48),) * 3, "teacher": ((4, 96),) * 3},
    # What the tokens' embedding answers, and the width of its table.
    "table": {"student": ((4, 6),), "teacher": ((4, 6),)},
}
# A classifier reads the last map's channels, or the embedding.
_WIDTHS = {"student": 6, "teacher": 7}


@dataclass(frozen=True)
class World:
    """An objective and all that it is shown."""

    objective: Objective[Any]
    student: Outputs
    teacher: Signal
    batch: Batch
    context: Context
    aux: nn.Module

    def terms(self) -> Terms:
        """The objective's terms; reading what `needs()` does not name is an AssertionError."""
        try:
            return self.objective.terms(self.student, self.teacher, self.batch, self.aux)
        except NeedsError as error:
            message = f"{self.objective.name} reads what its needs() does not name: {error}"
            raise AssertionError(message) from error

    def totals(self) -> dict[str, Tensor]:
        """Each term's sum over what counts."""
        return {name: total(term, self.batch) for name, term in self.terms().items()}

    def rows(self, index: Sequence[int]) -> "World":
        """The same with some of the examples, in the order of `index`."""
        rows = list(index)
        fields = self.batch.fields().items()
        return replace(
            self,
            student=each(self.student, lambda tensor: tensor[rows]),
            teacher=each(self.teacher, lambda tensor: tensor[rows]),
            batch=Batch(**{name: map_tensors(value, lambda t: t[rows]) for name, value in fields}),
        )

    def relabelled(self, **changes: Any) -> "World":
        """The same with other fields of the batch."""
        return replace(self, batch=Batch(**{**self.batch.fields(), **changes}))


def example_world(
    objective: Objective[Any],
    *,
    classes: int = 5,
    taps: Taps | None = None,
    seed: int = 0,
    positions: tuple[int, ...] = (_EXAMPLES,),
) -> World:
    """What `objective` needs, small and random: two positions unlabelled, one masked."""
    draw = torch.Generator().manual_seed(seed)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {"student": {}, "teacher": {}}
    for part in objective.parts():
        _add_shapes(part.part, shapes)
    objective = objective.settled(_pairs).at(Progress(step=1, steps=2))
    own: dict[str, dict[str, tuple[int, ...]]] = {"student": {}, "teacher": {}}
    for side, given in (taps or {}).items():
        assert side in shapes, f"taps are given for {side!r}, and there are student and teacher"
        own[side] = dict(given)
        shapes[side] |= given
    needs = objective.needs()
    named = {"student": needs.student_taps, "teacher": needs.teacher_taps}
    heads = {"student": needs.student_head, "teacher": needs.teacher_head}
    logits = {side: 2 * torch.randn(*positions, classes, generator=draw) for side in shapes}
    shown: dict[str, dict[str, Tensor]] = {}
    for side in shapes:
        unknown = sorted(named[side] - set(shapes[side]))
        assert not unknown, f"{objective.name}: give check_objective the shape of {unknown}"
        shown[side] = {
            name: _tap(positions[0], shapes[side][name], draw) for name in sorted(named[side])
        }
    classifiers: dict[str, Head | None] = {"student": None, "teacher": None}
    for side in (side for side in shapes if heads[side]):
        # The deepest of the taps that the caller names, if any, is what the classifier reads.
        width = next((shape[0] for shape in reversed(own[side].values())), _WIDTHS[side])
        weight = torch.randn(classes, width, generator=draw)
        classifiers[side] = Head(weight, torch.randn(classes, generator=draw))
    student = Outputs(logits["student"], shown["student"], classifiers["student"])
    distribution = Dense(logits["teacher"]) if needs.kinds else None
    teacher = Signal(distribution, shown["teacher"], classifiers["teacher"])
    all_labels = torch.arange(_ALL_IDS) % classes
    ids = torch.randperm(_ALL_IDS, generator=draw)[: positions[0]]
    context = Context(
        each(student, lambda tensor: tensor[:2]),
        each(teacher, lambda tensor: tensor[:2]),
        num_classes=classes,
        num_examples=_ALL_IDS,
        labels=all_labels,
        parameters=_tables(objective, shapes["student"], draw),
    )
    batch = _batch(needs, positions, classes, ids, all_labels, draw)
    return World(
        objective, student, teacher, batch, context, build_auxiliary(objective, context, seed)
    )


def worlds(objective: Objective[Any], **options: Any) -> list[World]:
    """One world of images, and one of sequences where the objective is position-wise."""
    flat = example_world(objective, **options)
    needs = flat.objective.needs()
    apart = needs.student_taps | needs.teacher_taps or needs.ids
    if needs.scope != "position" or apart:
        return [flat]
    return [flat, example_world(objective, **options, positions=(_EXAMPLES, 3))]


def _pairs(choice: Choice) -> Layers:
    return tuple((name, name) for name in _names(choice.kind))


def _names(kind: LayerKind) -> list[str]:
    return [f"{kind}.{letter}" for letter, _ in zip("abc", _SHAPES[kind]["student"], strict=False)]


def _add_shapes(method: Objective[Any], shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    """The shapes of the taps that a method with `layers: auto` will read."""
    if method.reads is None or getattr(method, "layers", None) != "auto":
        return
    sides = _SHAPES[method.reads]
    for side in shapes:
        shapes[side] |= dict(zip(_names(method.reads), sides[side], strict=True))


def _tap(examples: int, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    tap = torch.randn(examples, *shape, generator=draw)
    square = len(shape) == 3 and shape == _SHAPES["attention"]["student"][0]
    return tap.softmax(dim=-1) if square or shape == _SHAPES["attention"]["teacher"][0] else tap


def _batch(
    needs: Needs,
    positions: tuple[int, ...],
    classes: int,
    ids: Tensor,
    all_labels: Tensor,
    draw: torch.Generator,
) -> Batch:
    labels = torch.randint(classes, positions, generator=draw)
    if len(positions) == 1:
        labels = all_labels[ids]
    mask = torch.ones(positions, dtype=torch.bool)
    # Of a sequence the first position alone: its example still has others that count.
    first = (0,) * (len(positions) - 1)
    mask[(_MASKED, *first)] = False
    for example in _UNLABELLED:
        labels[(example, *first)] = -1
    inputs: Any = torch.rand(positions[0], 3, 4, 4, generator=draw)
    if tables := [name for name in needs.student_taps if name.startswith("table")]:
        length = _SHAPES["table"]["student"][len(tables) - 1][0]
        inputs = {"input_ids": torch.randint(_TOKENS, (positions[0], length), generator=draw)}
    return Batch(
        inputs,
        labels=labels if needs.labels else None,
        mask=mask,
        ids=ids if needs.ids else None,
        masks={name: torch.rand(positions, generator=draw) < 0.7 for name in sorted(needs.masks)},
        extra={name: torch.rand(positions, generator=draw) for name in sorted(needs.extra)},
    )


def _tables(
    objective: Objective[Any], shapes: Mapping[str, tuple[int, ...]], draw: torch.Generator
) -> dict[str, Tensor]:
    """The parameters of a student that reads tokens, for the methods that compare them."""
    names = [name for name in objective.needs().student_taps if name.startswith("table")]
    return {
        f"{name}.weight": torch.randn(_TOKENS, shapes[name][-1], generator=draw) for name in names
    }


def build_auxiliary(objective: Objective[Any], context: Context, seed: int) -> nn.Module:
    """The objective's modules in eval mode: batch statistics would tie examples together."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return objective.auxiliary(context).eval()


def head_of(shown: Outputs | Signal) -> Head | None:
    """The classifier that is shown, or None."""
    return shown.head if shown.has_head() else None


def each(shown: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """An answer with its logits and taps changed; the classifier stays."""
    taps = {name: change(tap) for name, tap in shown.taps.items()}
    if isinstance(shown, Outputs):
        return Outputs(change(shown.logits), taps, head_of(shown))
    dense = Dense(change(shown.logits)) if shown.has_distribution() else None
    return Signal(dense, taps, head_of(shown))
