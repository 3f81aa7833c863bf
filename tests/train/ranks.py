"""Run by test_ranks.py, once in one process and once in two: trains and writes what came of it."""

import json
from pathlib import Path

from safetensors.torch import save_file

from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.crd import CRD
from preceptor.objectives.dist import DIST
from preceptor.objectives.dml import DML
from preceptor.objectives.kd import KD
from preceptor.objectives.rkd import RKD
from preceptor.objectives.schedules import Auto
from preceptor.teachers.live import Live
from preceptor.teachers.peers import Peers
from preceptor.train.fit import run
from preceptor.train.plan import Plan
from tests.train.tiny import SGD, mlp, training, weights

LAYERS = (("1", "1"),)

CASES: dict[str, Objective] = {
    "positions": 0.1 * CE() + 0.9 * KD(),
    "batches": CE() + RKD(layers=LAYERS) + DIST() + Auto(0.2) * CRD(layers=LAYERS, negatives=8),
    "cohort": CE() + DML(),
    "hints": 1.0 * RKD(layers=LAYERS),
}


def main(case: str, out: Path) -> None:
    accumulate = 2 if case == "positions" else 1
    going = training(
        CASES[case],
        student=[mlp(1), mlp(5)] if case == "cohort" else mlp(1),
        teacher=Peers() if case == "cohort" else Live(mlp(2, width=32)),
        plan=Plan(steps=8, batch=12, optimizer=SGD, accumulate=accumulate, clip=5.0),
    )
    losses = [step.terms | {"total": step.total} for step in run(going)]
    if going.accelerator.is_main_process:
        (out / "losses.json").write_text(json.dumps(losses))
        save_file(weights(going), out / "student.safetensors")
