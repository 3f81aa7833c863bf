"""Run by test_ranks.py, in one process and in two: text that is written while a student learns."""

import json
from pathlib import Path
from typing import Any

from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.gkd import GKD
from preceptor.objectives.minillm import MiniLLM
from preceptor.synthesis.adaptive import AdaptiveRollouts
from preceptor.synthesis.policy import PolicyRollouts
from preceptor.synthesis.prompted import Prompted
from preceptor.synthesis.rollouts import Rollouts
from preceptor.synthesis.writers import Local, Mixed
from preceptor.teachers.live import Live
from preceptor.train.fit import run
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.training import Training
from tests.synthesis.small import ends, model, source

OFTEN = frozenset(range(40)) | ends()
"""Enough end tokens that rows, and the rows of a rank, end at different times."""


def sources(student: TappedModel, teacher: TappedModel) -> dict[str, tuple[Objective, Prompted]]:
    local = Local(student, Sampling(8), OFTEN)
    adaptive = AdaptiveRollouts(source(), local, steps=5)
    adaptive.phi = 1.0
    policy = PolicyRollouts(source(), Mixed(student, teacher, OFTEN, max_new=8), passes=2)
    return {
        "rollouts": (GKD(), Rollouts(source(), local, share=0.7)),
        "adaptive": (GKD(), adaptive),
        "policy": (1.0 * MiniLLM(), policy),
    }


def main(out: Path, sharded: bool) -> None:
    found: dict[str, Any] = {}
    for case in ("rollouts", "adaptive", "policy"):
        student, teacher = model(1), model(2)
        objective, stream = sources(student, teacher)[case]
        optimizer = OptimizerPlan(name="sgd", lr=0.05)
        plan = Plan(steps=5, batch=4, optimizer=optimizer, sharded=sharded)
        training = Training(student, Live(teacher), objective, stream, plan)
        losses = [step.terms | {"total": step.total} for step in run(training)]
        found[case] = {"losses": losses, "held": stream.state()["held"]}
        if training.accelerator.is_main_process:
            (out / "found.json").write_text(json.dumps(found))
