"""The loop. It trains images and text alike, yields each step's losses, and calls nobody back.

for losses in fit(student, teacher, 0.1 * CE() + 0.9 * KD(), source, Plan(steps=300)):
    print(losses.step, losses.total)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from accelerate import Accelerator

from preceptor.data.source import Source
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.teachers.base import Teacher
from preceptor.train.plan import Plan
from preceptor.train.step import Step
from preceptor.train.training import Training


@final
@dataclass(frozen=True)
class Losses:
    """What one optimiser step came to: global means over all micro-batches and ranks.

    Terms are unweighted. In a cohort the terms of the second member are named "1/kd", and so on.
    """

    step: int
    steps: int
    epoch: float
    total: float
    terms: dict[str, float]
    shares: dict[str, float]
    weights: dict[str, float]
    lr: float
    examples: int


def fit(
    students: TappedModel | Sequence[TappedModel],
    teacher: Teacher,
    objective: Objective[Any],
    source: Source,
    plan: Plan,
    *,
    accelerator: Accelerator | None = None,
    seed: int = 0,
) -> Iterator[Losses]:
    """Train in place, yielding after each step; `run` does the same for a `Training` at hand."""
    yield from run(
        Training(students, teacher, objective, source, plan, accelerator=accelerator, seed=seed)
    )


def run(training: Training) -> Iterator[Losses]:
    """The rest of a stage, one step a turn; between two turns the caller may save or stop."""
    world, rank = training.accelerator.num_processes, training.accelerator.process_index
    while training.step < training.steps:
        for trainee in training.trainees:
            trainee.member.learning()
        progress = training.progress()
        batch = training.source.take(rank, world).to(training.accelerator.device)
        objective = training.objective.at(progress)
        step = Step(training, objective, batch)
        terms = step.gradients()
        lr = step.update()
        training.step += 1
        means = {name: value for name, (value, _) in terms.items()}
        for index, trainee in enumerate(training.trainees):
            own = _own(means, index)
            objective.advance(trainee.member.aux, step.remembered(index), own, progress)
        if step.learns:
            training.teacher.learn(training.trainees[0].member.student, step.seen)
        yield Losses(
            step=training.step,
            steps=training.steps,
            epoch=training.progress().epoch,
            total=sum(value * weight for value, weight in terms.values()),
            terms=means,
            shares=_merged([t.balance.shares for t in training.trainees if step.probing]),
            weights=_merged([t.balance.weights for t in training.trainees]),
            lr=lr,
            examples=len(batch) * world,
        )


def _own(means: dict[str, float], index: int) -> dict[str, float]:
    """One member's losses, by the names that its objective gave."""
    apart = [name.rpartition("/") for name in means]
    member = str(index) if index else ""
    return {name: means[who + slash + name] for who, slash, name in apart if who == member}


def _merged(each: list[dict[str, float]]) -> dict[str, float]:
    return {
        (f"{index}/" if index else "") + name: value
        for index, values in enumerate(each)
        for name, value in values.items()
    }
