"""A student that begins inside its teacher.

Khoa Trinh, Gaurav Menghani, Erik Vee. "GUIDE: Guided Initialization and Distillation of
Embeddings". arXiv 2025. arXiv:2510.06502. What `guide` does is a reconstruction from its abstract
and what others quote of it: the leading directions of the embedding table, about zero, for the
embeddings and the first block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

from jaxtyping import Float
from torch import Tensor

from preceptor.errors import ModelError
from preceptor.fields import Positive, check_ranges
from preceptor.models.load import load
from preceptor.models.tapped import TappedModel
from preceptor.students.architecture import Architecture, described
from preceptor.students.bases import (
    Basis,
    centred_moment,
    embedding_moment,
    principal,
    pruned,
    random_basis,
    selected,
)
from preceptor.students.choosing import Choice, Depth, chosen, depth_map, require_smaller
from preceptor.students.convolutions import begin_convolutions
from preceptor.students.folding import require_turning
from preceptor.students.mapping import Mapping, differences
from preceptor.students.networks import is_network
from preceptor.students.repair import Repair
from preceptor.students.report import Report
from preceptor.students.streams import Pooled, explained_energy, pooled
from preceptor.students.weights import ModuleWeights, Weights, weights_of
from preceptor.types import Inputs

Directions = Literal["guide", "project", "select", "prune", "random"]
DENSE = ("guide", "project", "random")
"""Bases that mix channels."""


@final
@dataclass(frozen=True)
class Plan:
    """How a student begins.

    Args:
        basis: which directions of the teacher's stream are kept: `guide` the leading ones of its
            embedding table, `project` those of its activations, `select` evenly spaced channels,
            `prune` the channels that activations find most important (and heads and neurons
            likewise), `random` any.
        blocks: `first` maps embeddings and first block and leaves the rest as it was drawn;
            `all` maps everything.
        depth: the teacher's blocks that are kept, where there are fewer: `even`, `first`, or
            those of most `influence`.
        repair: whether writers are fitted anew on the calibration.
        ridge: how strongly they are held to what they were.
        seed: of the random basis.
    """

    basis: Directions = "project"
    blocks: Literal["first", "all"] = "all"
    depth: Depth = "even"
    repair: bool = False
    ridge: Positive = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def reads_activations(self) -> bool:
        """Whether a live teacher and calibration are needed."""
        return self.basis in ("project", "prune") or self.depth == "influence" or self.repair


PLANS: dict[str, Plan] = {
    "guide": Plan("guide", blocks="first"),
    "project": Plan("project", repair=True),
    "select": Plan("select"),
    "prune": Plan("prune"),
    "random": Plan("random"),
}
"""Each basis with what is usual beside it."""


def begin(
    student: TappedModel,
    teacher: TappedModel | str | Path,
    plan: Plan,
    *,
    calibration: Sequence[Inputs] = (),
    frequencies: Float[Tensor, " v"] | None = None,
    loss: Callable[[TappedModel], float] | None = None,
) -> Report:
    """Write a student's weights from its teacher's, in place, before the first step.

    Of convolutional networks `basis`, `repair` and `ridge` are read; without repair, calibration
    estimates their norms anew.

    Args:
        student: drawn at random; of the teacher's architecture, nowhere larger.
        teacher: a live model, or a folder of safetensors that is read a tensor at a time.
        plan: what is done.
        calibration: inputs that both read, some thousand tokens; for what reads activations, and
            to tell how much of the stream the basis keeps.
        frequencies: of each token, for `guide`; rows count alike where nothing is said.
        loss: what to measure before and after; lower is better.

    Errors:
        ModelError: the architectures do not fit one another, a basis that the architecture does
            not allow, a plan that reads activations of a teacher that is not live.
        DataError: frequencies of another vocabulary.
    """
    if is_network(student.module):
        return _begin_convolutions(student, teacher, plan, calibration, loss)
    _require_activations(teacher, plan, calibration)
    weights = weights_of(teacher)
    seen = described(ModuleWeights(student)), described(weights)
    _require_family(*seen)
    require_smaller(seen[1].sizes, seen[0].sizes)
    if plan.basis in DENSE:
        require_turning(seen[1])
    random_loss = None if loss is None else loss(student)
    live = teacher if isinstance(teacher, TappedModel) else None
    activations = None
    if live is not None and plan.reads_activations:
        activations = pooled(live, seen[1], calibration)
    basis, energy = _basis(plan, weights, seen, activations, frequencies)
    choices = _choices(plan, seen, activations)
    mapping = Mapping(student, weights, basis, choices, ends=plan.blocks == "all")
    origins = mapping.run()
    depth = tuple(choice.of for choice in choices)
    report = Report(
        plan.basis,
        seen[1].sizes.stream,
        seen[0].sizes.stream,
        basis.gain,
        depth,
        energy,
        origins,
        warnings=(*differences(*seen, depth), *mapping.warnings),
        random_loss=random_loss,
    )
    if live is not None and calibration:
        found = explained_energy(live, seen[1], basis, calibration)
        report = replace(report, energy={**energy, **found})
    if live is not None and plan.repair:
        repair = Repair(student, live, seen, basis, choices, calibration, plan.ridge)
        report = replace(report, repaired=repair.run())
    return report if loss is None else replace(report, loss=loss(student))


def _begin_convolutions(
    student: TappedModel,
    teacher: TappedModel | str | Path,
    plan: Plan,
    calibration: Sequence[Inputs],
    loss: Callable[[TappedModel], float] | None,
) -> Report:
    if plan.basis not in ("select", "prune"):
        raise ModelError(
            f"a convolutional network was to begin by {plan.basis!r}",
            "its norms and ReLUs see each channel on its own: in a basis that mixes them it would "
            "be another function",
            "Begin by `select` or `prune`.",
        )
    live = teacher if isinstance(teacher, TappedModel) else load(teacher)
    if plan.repair and not calibration:
        raise ModelError(
            "convolutions were to be fitted to the teacher's",
            "that is done on images, and none were given",
            "Give calibration batches, or leave repair out.",
        )
    return begin_convolutions(
        student,
        live,
        plan.basis,
        calibration=calibration,
        repair=plan.repair,
        ridge=plan.ridge,
        loss=loss,
    )


def _basis(
    plan: Plan,
    weights: Weights,
    seen: tuple[Architecture, Architecture],
    activations: Pooled | None,
    frequencies: Tensor | None,
) -> tuple[Basis, dict[str, float]]:
    """The basis, and how much of the embedding table it keeps where that was summed up."""
    width, kept = seen[1].sizes.stream, seen[0].sizes.stream
    centred = seen[1].family.norm == "layer"
    if plan.basis == "guide":
        moment = embedding_moment(weights, seen[1], frequencies)
        basis = principal("guide", moment, kept, centred=centred)
        read = centred_moment(moment) if centred else moment
        return basis, {"embedding table": basis.explained(read)}
    if plan.basis == "random":
        return random_basis(width, kept, seed=plan.seed, centred=centred), {}
    if plan.basis == "select":
        return selected(seen[1], kept), {}
    assert activations is not None, "a plan that reads activations was given them"
    if plan.basis == "prune":
        return pruned(activations.channels, kept), {}
    return principal("project", activations.moment, kept, centred=centred), {}


def _choices(
    plan: Plan, seen: tuple[Architecture, Architecture], activations: Pooled | None
) -> list[Choice]:
    """What is kept of each mapped block."""
    own, theirs = seen[0].sizes, seen[1].sizes
    depth: Sequence[int] = (0,)
    if plan.blocks == "all":
        influence = None if activations is None else activations.influence
        depth = depth_map(plan.depth, theirs.blocks, own.blocks, influence)
    important = activations.importance if activations and plan.basis == "prune" else None
    rotary = seen[1].family.rotary
    choices = [
        chosen(theirs, own, of, None if important is None else important[of], rotary=rotary)
        for of in depth
    ]
    if not plan.repair:
        return choices
    ends = [*(of - 1 for of in depth[1:]), theirs.blocks - 1]
    return [replace(choice, until=end) for choice, end in zip(choices, ends, strict=True)]


def _require_family(student: Architecture, teacher: Architecture) -> None:
    own, theirs = student.family.types, teacher.family.types
    if own != theirs:
        raise ModelError(
            f"a {own[0]} student was to begin inside a {theirs[0]} teacher",
            "the same tensors would be another function: norms and positions differ",
            f"Choose a student of {' or '.join(theirs)}.",
        )


def _require_activations(
    teacher: TappedModel | str | Path, plan: Plan, calibration: Sequence[Inputs]
) -> None:
    if plan.repair and plan.blocks == "first":
        raise ModelError(
            "writers were to be repaired behind a student of which one block is mapped",
            "each block is fitted to where the teacher's next one begins, and the rest is random",
            "Say `blocks: all`, or leave repair out.",
        )
    if not plan.reads_activations or (isinstance(teacher, TappedModel) and calibration):
        return
    what = "no calibration was given"
    if not isinstance(teacher, TappedModel):
        what = f"the teacher is a folder of weights, {teacher}"
    raise ModelError(
        f"a student was to begin by {plan.basis!r} with depth {plan.depth!r}"
        f"{' and repair' if plan.repair else ''}",
        f"that reads activations, and {what}",
        "Load the teacher and give inputs, or begin by `guide` or `select` without repair.",
    )
