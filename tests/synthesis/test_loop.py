"""Written text through the loop: whole steps, split steps, and a run that was stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from preceptor.data.source import Source
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.distillm2 import DistiLLM2
from preceptor.objectives.gkd import GKD
from preceptor.objectives.minillm import MiniLLM
from preceptor.synthesis.adaptive import AdaptiveRollouts
from preceptor.synthesis.pairs import Pairs
from preceptor.synthesis.policy import PolicyRollouts
from preceptor.synthesis.rollouts import Rollouts
from preceptor.synthesis.writers import Local, Mixed
from preceptor.teachers.live import Live
from preceptor.train.checkpoint import resume, save
from preceptor.train.fit import Losses, run
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.training import Training
from tests.synthesis.small import ends, model, source

Made = Callable[[TappedModel], tuple[Objective, Source]]


def gkd(student: TappedModel) -> tuple[Objective, Source]:
    writer = Local(student, Sampling(5, temperature=0.9), ends())
    return GKD(temperature=1.0), Rollouts(source(), writer, share=0.6)


def minillm(student: TappedModel) -> tuple[Objective, Source]:
    writer = Mixed(student, model(2), ends(), max_new=5)
    loss = MiniLLM() + 0.5 * CE(over="data_written")
    return loss, PolicyRollouts(source(), writer, passes=2, pretraining=source(2, seed=1))


def adaptive(student: TappedModel) -> tuple[Objective, Source]:
    stream = AdaptiveRollouts(source(), Local(student, Sampling(5), ends()), steps=6)
    stream.phi = 0.8
    return GKD(beta=1.0), stream


def pairs(student: TappedModel) -> tuple[Objective, Source]:
    return DistiLLM2(), Pairs(source(), Local(student, Sampling(5), ends()))


def begun(made: Made, accumulate: int = 1, steps: int = 6) -> Training:
    student = model(1)
    objective, stream = made(student)
    plan = Plan(
        steps=steps,
        batch=4,
        accumulate=accumulate,
        optimizer=OptimizerPlan(name="sgd", lr=0.05),
    )
    return Training(student, Live(model(2)), objective, stream, plan)


def totals(losses: list[Losses]) -> list[float]:
    return [each.total for each in losses]


EVERY = pytest.mark.parametrize("made", [gkd, minillm, adaptive, pairs])


@EVERY
def test_micro_batches_change_no_number(made: Made) -> None:
    whole = totals(list(run(begun(made, steps=3))))
    split = totals(list(run(begun(made, accumulate=2, steps=3))))
    assert split == pytest.approx(whole, rel=1e-4)


@EVERY
def test_a_stopped_run_goes_on_with_the_same_losses(made: Made, tmp_path: Path) -> None:
    whole = totals(list(run(begun(made))))
    stopped = begun(made)
    for losses in run(stopped):
        if losses.step == 3:
            save(stopped, tmp_path)
            break
    again = begun(made)
    assert resume(again, tmp_path) == ()
    assert totals(list(run(again))) == whole[3:]
