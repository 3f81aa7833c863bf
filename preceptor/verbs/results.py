"""From the cells of a finished run to what is judged: arms, teacher, costs, surroundings."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from preceptor.evaluate.cost import model_cost, together
from preceptor.evaluate.diagnosis import Finding
from preceptor.evaluate.results import (
    PLAIN,
    ArmResult,
    Losses,
    ModelCost,
    RunResult,
    SeedResult,
)
from preceptor.models.rounding import round_weights
from preceptor.models.tapped import TappedModel
from preceptor.recipe.image_subject import ImageSubject
from preceptor.recipe.licences import licences_of
from preceptor.recipe.load import recipe_text
from preceptor.recipe.models import MODEL_KEYS
from preceptor.recipe.schema import STUDENT
from preceptor.recipe.starts import InsideStart
from preceptor.recipe.subject import PARTS, Subject
from preceptor.students.report import WARNING
from preceptor.teachers.base import Teacher
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.live import Live
from preceptor.verbs import independent, rationales, timings
from preceptor.verbs.cells import Cell, Finished, finished, student_folder
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.layers import beside_teacher
from preceptor.verbs.progress import Progress
from preceptor.verbs.prospects import uncovered
from preceptor.verbs.teacher_cells import TEACHER_SEED
from preceptor.verbs.timings import Together

_PACKAGES = ("preceptor", "torch", "transformers", "accelerate", "numpy", "scikit-learn")


def fixed_teacher(experiment: Experiment, progress: Progress) -> Teacher | None:
    """The run's last teacher that is a model or several, trained or loaded; see `Experiment`."""
    progress.plan(experiment.teachers())
    named = experiment.recipe.independent is not None and experiment.original is None
    if named and (other := experiment.independent) is not None:
        experiment.subject.check_teacher(other)  # Before hours are spent on what it is to judge.
    return experiment.fixed


def run_result(
    experiment: Experiment,
    fixed: Teacher | None,
    arms: Mapping[str, Sequence[Cell]],
    phases: Mapping[str, float],
) -> RunResult:
    """Everything that the report is made from."""
    recipe, subject = experiment.recipe, experiment.subject
    example = subject.example()
    found: list[ArmResult] = []
    models: dict[str, Any] = {}
    taught = [cell for cell in experiment.every_teacher() if cell.done()]
    warnings = [*subject.remarks(), *_begun(experiment)]
    warnings += _warnings(taught, [finished(cell) for cell in taught])
    for name, cells in arms.items():
        done = [finished(cell) for cell in cells]
        warnings += _warnings(cells, done)
        shown = 1 if name in recipe.variants else len(done[0].answers)
        for member in range(shown):
            arm = name if member == 0 else f"peer-{member}"
            folder = student_folder(cells[0], member)
            model = subject.runnable(subject.saved(folder))
            models[arm] = model
            found.append(
                ArmResult(
                    arm,
                    tuple(
                        _seed_result(cell.seed, one, member, subject)
                        for cell, one in zip(cells, done, strict=True)
                    ),
                    model_cost(model, example, folder),
                    versus="control" if member == 0 else f"control-{member}",
                    unlabelled=_unlabelled(experiment, name),
                )
            )
    teacher, runnable = _teacher(experiment, fixed, arms, models, example)
    if runnable is not None:
        models["teacher"] = runnable
    if "fidelity" in recipe.evaluate and getattr(runnable, "own", None) is None:
        found = beside_teacher(found, arms, fixed, subject)
    if "rationales" in recipe.evaluate:
        found, teacher = rationales.tested(found, arms, teacher, fixed, subject)
    other = _independent(experiment, teacher)
    if experiment.independent is not None:
        found = independent.beside(found, arms, experiment.independent, subject)
    elif other is None and "independent" in recipe.evaluate:
        warnings.append(
            "no independent teacher: each seed has its own, and one seed has no other's; run two"
        )
    return RunResult(
        name=recipe.name,
        labels=subject.labels,
        classes=subject.classes,
        primary=subject.primary,
        slices=subject.slices(),
        clusters=subject.clusters(),
        arms=tuple(found),
        teacher=teacher,
        independent=other,
        recipe=recipe_text(recipe),
        timing=timings.of_one(models, example) if "cost" in recipe.evaluate else None,
        many=timings.of_many(models, subject) if "cost" in recipe.evaluate else None,
        grades=subject.grades(),
        writing=timings.of_writing(models, subject) if "cost" in recipe.evaluate else None,
        rounded=tuple(_rounded(subject, arms)) if "int8" in recipe.evaluate else (),
        contamination=subject.contamination(),
        licences=licences_of(recipe),
        findings=_beforehand(experiment),
        begun=_start(experiment),
        test=subject.test_items,
        versions=versions(),
        hardware=hardware(),
        warnings=tuple(dict.fromkeys(warnings)),
        phases=phases,
    )


def _beforehand(experiment: Experiment) -> tuple[Finding, ...]:
    """What the examples alone say of what can be learned from them."""
    subject, recipe = experiment.subject, experiment.recipe
    if not isinstance(subject, ImageSubject):
        return ()
    sources = [
        subject.source(stage, stage.plan, recipe.seed.first)
        for stage in recipe.stages
        if stage.data is None
    ]
    found = [uncovered(subject, source, subject.labels) for source in sources]
    return tuple(dict.fromkeys(each for each in found if each is not None))


def _start(experiment: Experiment) -> str:
    """What was done where the first seed's student begins inside its teacher."""
    if not isinstance(experiment.recipe.student.start, InsideStart):
        return ""
    return experiment.starts.report(experiment.recipe.seed.first)


def _teacher(
    experiment: Experiment,
    fixed: Teacher | None,
    arms: Mapping[str, Sequence[Cell]],
    models: Mapping[str, Any],
    example: Any,
) -> tuple[ArmResult | None, Any]:
    """The teacher as an arm, and something to time."""
    subject = experiment.subject
    if fixed is not None:
        seconds = sum(finished(cell).seconds for cell in experiment.teachers() if cell.done())
        steps = sum(cell.steps for cell in experiment.teachers())
        device = torch.device("cpu")
        own = {part: subject.answers(fixed, part, device, lambda: None) for part in PARTS}
        one = subject.seed_result(TEACHER_SEED, own, steps, seconds)
        if one.logits is None and subject.primary not in one.items:
            return None, None  # Several models together predict tokens and write no answer.
        members = [subject.runnable(model) for model in _modules(fixed)]
        own_example = subject.example_of_teacher()
        folders = [_folder(experiment, model) for model in _modules(fixed)]
        each = zip(members, folders, strict=True)
        cost = together([model_cost(one, own_example, folder) for one, folder in each])
        same = _alike(own_example, example)
        return ArmResult("teacher", (one,), cost), Together(members, None if same else own_example)
    before = _generation_before(arms)
    cells = arms[before] if before else arms["distilled"]
    done = [finished(cell) for cell in cells]
    answers = [one.answers[0] if before else one.teacher_answers for one in done]
    if not all(answers):
        return None, None
    seeds = tuple(
        subject.seed_result(cell.seed, own, one.steps, one.seconds)
        for cell, one, own in zip(cells, done, answers, strict=True)
    )
    model = models[before or "distilled"]
    return ArmResult("teacher", seeds, model_cost(model, example)), model


def _independent(experiment: Experiment, teacher: ArmResult | None) -> ArmResult | None:
    """A teacher that the student never met, as an arm; None where nobody asks for it."""
    if teacher is None or "independent" not in experiment.recipe.evaluate:
        return None
    if (other := experiment.independent) is None:
        return independent.of_other_seeds(teacher)
    subject, device = experiment.subject, torch.device("cpu")
    own = {part: subject.answers(other, part, device, lambda: experiment.fixed) for part in PARTS}
    cells = [cell for cell in experiment.every_teacher() if cell.arm.startswith(independent.NAME)]
    steps, seconds = sum(cell.steps for cell in cells), sum(finished(c).seconds for c in cells)
    one = subject.seed_result(TEACHER_SEED, own, steps, seconds)
    example = subject.example_of_teacher()
    cost = together([model_cost(subject.runnable(m), example) for m in _modules(other)])
    return ArmResult(independent.NAME, (one,), cost, versus="")


def _generation_before(arms: Mapping[str, Sequence[Cell]]) -> str:
    """The arm that taught the last generation; empty where there are none."""
    numbers = [int(name.rpartition("-")[2]) for name in arms if name.startswith("generation-")]
    return f"generation-{max(numbers)}" if numbers else ""


def _seed_result(seed: int, one: Finished, member: int, subject: Subject) -> SeedResult:
    losses = _curve(one.curve, f"{member}/" if member else "")
    return subject.seed_result(seed, one.answers[member], one.steps, one.seconds, losses)


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


def _modules(teacher: Teacher) -> list[TappedModel]:
    if isinstance(teacher, Ensemble):
        return [model for member in teacher.members for model in _modules(member)]
    assert isinstance(teacher, Live), "what is fixed is a model or several"
    return [teacher.model]


def _rounded(subject: Subject, arms: Mapping[str, Sequence[Cell]]) -> Iterator[ArmResult]:
    """Student and control with their weights rounded to 8 bits, asked again."""
    device = torch.device("cpu")
    for name in ("distilled", "control"):
        found: list[SeedResult] = []
        for cell in arms.get(name, ()):
            model = subject.saved(student_folder(cell))
            round_weights(model)
            answers = {part: subject.answers(model, part, device, lambda: None) for part in PARTS}
            found.append(subject.seed_result(cell.seed, answers, 0, 0.0))
        if found:
            yield ArmResult(name, tuple(found), ModelCost(0, 0, 0))


def _folder(experiment: Experiment, model: TappedModel) -> Path | None:
    """Where a teacher lies: where it was trained, if it is the only one, or was loaded from."""
    if len(trained := experiment.teachers()) == 1 and trained[0].done():
        return student_folder(trained[0])
    named = [model.spec.get(key) for key in MODEL_KEYS]
    return next(
        (Path(each) for each in named if isinstance(each, str) and Path(each).is_dir()), None
    )


def _alike(one: Any, other: Any) -> bool:
    """Whether two examples are the same tensors."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return one is other or bool(torch.equal(one, other))
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def _unlabelled(experiment: Experiment, arm: str) -> int:
    """Examples that an arm saw without their label; arms without a teacher see none."""
    if arm in PLAIN or arm.startswith("control-"):
        return 0
    recipe = experiment.recipe.way(arm if arm in experiment.recipe.variants else STUDENT)
    seed = recipe.seed.first
    each = [experiment.subject.unlabelled(stage, stage.plan, seed) for stage in recipe.stages]
    return max(each)


def _begun(experiment: Experiment) -> list[str]:
    """What the arms had from a teacher before their first step, and what it lost on the way."""
    recipe, said = experiment.recipe, experiment.recipe.student.start
    if not isinstance(said, InsideStart):
        return []
    but = " but scratch, which begins at random," if "scratch" in recipe.control.arms else ""
    return [
        f"every arm{but} begins inside the teacher (start: {said.key}), the control too: a "
        "difference to the control is what the teacher gave while the student learned, and not "
        "what it gave at the start",
        *(
            f"start: {line.removeprefix(WARNING)}"
            for line in _start(experiment).splitlines()
            if line.startswith(WARNING)
        ),
    ]


def _warnings(cells: Sequence[Cell], done: Sequence[Finished]) -> list[str]:
    return [
        f"{cell.arm}, seed {cell.seed}: {notice}"
        for cell, one in zip(cells, done, strict=True)
        for notice in one.notices
    ]


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def hardware() -> dict[str, str]:
    """What this process computes on, by kind."""
    found = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found
