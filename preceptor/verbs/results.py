"""From the cells of a finished run to what is judged: arms, teacher, costs, surroundings."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from preceptor.data.images import ImageData, ImageSet
from preceptor.evaluate.cost import ModelCost, Timing, measure, model_cost
from preceptor.evaluate.results import ArmResult, Losses, RunResult, SeedResult, Validation
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.recipe import build
from preceptor.recipe.load import recipe_text
from preceptor.recipe.teachers import CachedTeacher, NobodyTeacher
from preceptor.teachers.base import Teacher
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.live import Live
from preceptor.train.checks import check_teacher_knows
from preceptor.types import Batch, Dense
from preceptor.verbs.cells import EVALUATION_BATCH, Cell, Finished, finished, student_folder
from preceptor.verbs.experiment import TEACHER_SEED, Experiment
from preceptor.verbs.progress import Progress

_CHECKED = 512
"""Held-out images on which a teacher shows that it knows anything."""

_ENOUGH = 64
"""With fewer, chance could explain what a fair teacher knows."""

_PACKAGES = ("preceptor", "torch", "transformers", "accelerate", "numpy", "scikit-learn")


@final
@dataclass(frozen=True)
class FixedTeacher:
    """A teacher that is the same for every seed, and its answers to the held-out sets."""

    teacher: Teacher
    logits: Mapping[str, Tensor]


def fixed_teacher(experiment: Experiment, progress: Progress) -> FixedTeacher | None:
    """The run's last teacher that is a model or several, trained or loaded.

    It and those of earlier stages first show that they know something. None where the student
    ends with its own past, its peers, or nobody at all as its teacher.
    """
    data = experiment.data
    progress.plan(experiment.teachers())
    fixed: Teacher | None = None
    for name, said in experiment.said_teachers().items():
        whole = said.cached.teacher if isinstance(said, CachedTeacher) else said
        if build.stands_still(whole):
            fixed = experiment.teacher(whole, (), name)
            check_teacher_knows(fixed, *_chunk(data), data.num_classes)
        elif not isinstance(whole, NobodyTeacher):
            fixed = None
    if fixed is None:
        return None
    logits = {
        part: _answers(fixed, images)
        for part, images in (("validation", data.validation), ("test", data.test))
    }
    return FixedTeacher(fixed, logits)


def _chunk(data: ImageData) -> tuple[Batch, str]:
    """Held-out images; where they are too few to tell anything, training images beside them."""
    rows = torch.arange(min(_CHECKED, len(data.validation)))
    held = data.validation.batch(rows)
    if len(held) >= _ENOUGH:
        return held, "held-out"
    more = data.train.batch(data.train.labelled[: _ENOUGH - len(held)])
    assert isinstance(held.inputs, Tensor)
    assert isinstance(more.inputs, Tensor)
    inputs = torch.cat([held.inputs, more.inputs])
    return Batch(inputs, labels=torch.cat([held.labels, more.labels])), "held-out and training"


def run_result(
    experiment: Experiment,
    fixed: FixedTeacher | None,
    arms: Mapping[str, Sequence[Cell]],
    phases: Mapping[str, float],
) -> RunResult:
    """Everything that the report is made from."""
    recipe, data = experiment.recipe, experiment.data
    example = data.test.batch(torch.arange(1)).inputs
    assert isinstance(example, Tensor)
    found: list[ArmResult] = []
    models: dict[str, Any] = {}
    taught = [cell for cell in experiment.every_teacher() if cell.done()]
    warnings = _warnings(taught, [finished(cell) for cell in taught])
    for name, cells in arms.items():
        done = [finished(cell) for cell in cells]
        warnings += _warnings(cells, done)
        shown = 1 if name in recipe.variants else len(done[0].logits)
        for member in range(shown):
            arm = name if member == 0 else f"peer-{member}"
            model = load_model({"folder": str(student_folder(cells[0], member))})
            models[arm] = model
            found.append(
                ArmResult(
                    arm,
                    tuple(
                        _seed_result(cell.seed, one, member, experiment)
                        for cell, one in zip(cells, done, strict=True)
                    ),
                    model_cost(model, example),
                    versus="control" if member == 0 else f"control-{member}",
                    unlabelled=_unlabelled(cells[0]),
                )
            )
    teacher, runnable = _teacher(experiment, fixed, arms, models, example)
    if runnable is not None:
        models["teacher"] = runnable
    return RunResult(
        name=recipe.name,
        labels=data.test.labels.numpy(),
        classes=data.class_names,
        arms=tuple(found),
        teacher=teacher,
        recipe=recipe_text(recipe),
        timing=_timing(models, example) if "cost" in recipe.evaluate else None,
        versions={name: version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        hardware=_hardware(),
        warnings=tuple(dict.fromkeys(warnings)),
        phases=phases,
    )


def _teacher(
    experiment: Experiment,
    fixed: FixedTeacher | None,
    arms: Mapping[str, Sequence[Cell]],
    models: Mapping[str, Any],
    example: Tensor,
) -> tuple[ArmResult | None, Any]:
    """The teacher as an arm, and something to time."""
    data = experiment.data
    if fixed is not None:
        seconds = sum(finished(cell).seconds for cell in experiment.teachers() if cell.done())
        steps = sum(cell.steps for cell in experiment.teachers())
        one = SeedResult(
            TEACHER_SEED,
            fixed.logits["test"].numpy(),
            steps,
            seconds,
            Validation(fixed.logits["validation"].numpy(), data.validation.labels.numpy()),
        )
        members = _modules(fixed.teacher)
        costs = [model_cost(member, example) for member in members]
        cost = ModelCost(
            sum(c.parameters for c in costs),
            sum(c.bytes for c in costs),
            sum(c.flops for c in costs),
        )
        return ArmResult("teacher", (one,), cost), _Together(members)
    before = _generation_before(arms)
    cells = arms[before] if before else arms["distilled"]
    done = [finished(cell) for cell in cells]
    logits = [one.logits[0] if before else one.teacher_logits for one in done]
    if not all(logits):
        return None, None
    seeds = tuple(
        SeedResult(
            cell.seed,
            own["test"].numpy(),
            one.steps,
            one.seconds,
            Validation(own["validation"].numpy(), data.validation.labels.numpy()),
        )
        for cell, one, own in zip(cells, done, logits, strict=True)
    )
    model = models[before or "distilled"]
    return ArmResult("teacher", seeds, model_cost(model, example)), model


def _generation_before(arms: Mapping[str, Sequence[Cell]]) -> str:
    """The arm that taught the last generation; empty where there are none."""
    numbers = [int(name.rpartition("-")[2]) for name in arms if name.startswith("generation-")]
    return f"generation-{max(numbers)}" if numbers else ""


def _seed_result(seed: int, one: Finished, member: int, experiment: Experiment) -> SeedResult:
    labels = experiment.data.validation.labels.numpy()
    return SeedResult(
        seed,
        one.logits[member]["test"].numpy(),
        one.steps,
        one.seconds,
        Validation(one.logits[member]["validation"].numpy(), labels),
        _curve(one.curve, f"{member}/" if member else ""),
    )


def _curve(entries: Sequence[Mapping[str, Any]], prefix: str) -> Losses:
    """One member's terms over the steps of all stages; a term absent from a stage is NaN there."""
    own = [
        {k.removeprefix(prefix): v for k, v in entry["terms"].items() if _belongs(k, prefix)}
        for entry in entries
    ]
    names = dict.fromkeys(name for terms in own for name in terms)
    values = {n: np.array([terms.get(n, np.nan) for terms in own]) for n in names}
    return Losses(np.arange(1, len(own) + 1), values)


def _belongs(term: str, prefix: str) -> bool:
    return term.startswith(prefix) if prefix else not term[0].isdigit()


def _answers(teacher: Teacher, images: ImageSet) -> Tensor:
    answers: list[Tensor] = []
    for batch in images.batches(EVALUATION_BATCH):
        distribution = teacher.signal(batch).whole
        if isinstance(distribution, Dense) and distribution.temperature is None:
            answers.append(distribution.logits)
        else:
            answers.append(distribution.log_probs(1.0))
    return torch.cat(answers).float().cpu()


def _modules(teacher: Teacher) -> list[TappedModel]:
    if isinstance(teacher, Ensemble):
        return [model for member in teacher.members for model in _modules(member)]
    assert isinstance(teacher, Live), "what is fixed is a model or several"
    return [teacher.model]


@final
class _Together(nn.Module):
    """Several models on one input, one after the other."""

    def __init__(self, members: Sequence[TappedModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> list[Any]:
        return [member(inputs) for member in self.members]


def _timing(models: Mapping[str, Any], example: Tensor) -> Timing:
    """One image at a time, one thread: what a server without batching would see."""
    shown = {k: v.cpu() for k, v in models.items() if k in ("teacher", "distilled", "control")}
    return measure(shown, example, generator=np.random.default_rng(0), threads=1)


def _unlabelled(cell: Cell) -> int:
    return max(len(stretch.source().unlabelled) for stretch in cell.stretches)


def _warnings(cells: Sequence[Cell], done: Sequence[Finished]) -> list[str]:
    return [
        f"{cell.arm}, seed {cell.seed}: {notice}"
        for cell, one in zip(cells, done, strict=True)
        for notice in one.notices
    ]


def _hardware() -> dict[str, str]:
    found = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found
