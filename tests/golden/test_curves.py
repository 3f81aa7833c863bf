"""Twenty seeded steps of each kind of objective: a change that should move no number moves none.

In float64: in float32 the order in which a processor adds moves some curves by 2 % within 20 steps.
Where a change should move them, write the curves anew and show the difference:
`python -m tests.golden.test_curves`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from preceptor.data.image_source import ImageSource, rest
from preceptor.data.stratified import few_labels
from preceptor.data.toy import toy_images
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.attention_transfer import AttentionTransfer
from preceptor.objectives.base import Objective
from preceptor.objectives.byot import BYOT
from preceptor.objectives.ce import CE
from preceptor.objectives.crd import CRD
from preceptor.objectives.dist import DIST
from preceptor.objectives.dkd import DKD
from preceptor.objectives.fitnets_onestage import FitNetsOneStage
from preceptor.objectives.kd import KD
from preceptor.objectives.rkd import RKD
from preceptor.objectives.schedules import Auto, Ramp
from preceptor.teachers.live import Live
from preceptor.train.fit import fit
from preceptor.train.plan import OptimizerPlan, Plan, SchedulePlan

FILE = Path(__file__).with_name("curves.json")
IMAGES = toy_images()

OBJECTIVES: dict[str, Objective] = {
    "kd": 0.1 * CE() + 0.9 * KD(temperature=4.0),
    "dkd": CE() + Ramp(start=0.0, end=1.0, over=0.5) * DKD(),
    "dist": CE() + 2.0 * DIST(temperature=4.0),
    "maps": CE() + Auto(0.3) * AttentionTransfer() + Auto(0.2) * FitNetsOneStage(),
    "relations": CE() + Auto(0.4) * RKD(),
    "memory": CE() + 0.8 * CRD(negatives=32),
    "exits": CE() + BYOT(),
}


def model(seed: int) -> TappedModel:
    torch.manual_seed(seed)
    spec = {"zoo": "cnn-small", "classes": IMAGES.num_classes, "channels": 1, "size": 8}
    made = load_model(spec).double()
    made.module.register_forward_pre_hook(lambda _, given: tuple(each.double() for each in given))
    return made


@contextmanager
def doubled() -> Iterator[None]:
    """In the block what is made is made in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def curve(objective: Objective) -> list[float]:
    """The total loss of each step."""
    labelled = few_labels(IMAGES.labels, 40, 0)
    source = ImageSource(
        IMAGES,
        labelled=labelled,
        unlabelled=rest(IMAGES, labelled),
        batch=16,
        unlabelled_batch=16,
        seed=0,
    )
    plan = Plan(
        steps=20,
        batch=16,
        optimizer=OptimizerPlan(lr=0.05),
        schedule=SchedulePlan(name="cosine"),
        probe_every=7,
    )
    student, teacher = model(1), Live(model(2))
    with doubled():  # What an objective brings along is as wide as the models.
        return [losses.total for losses in fit(student, teacher, objective, source, plan)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_twenty_steps_are_what_they_were(name: str) -> None:
    kept = json.loads(FILE.read_text())[name]
    # Pixels and what is reported are float32: processors differ by up to 1e-5.
    assert curve(OBJECTIVES[name]) == pytest.approx(kept, rel=1e-4, abs=1e-5)


if __name__ == "__main__":
    curves = {name: curve(objective) for name, objective in OBJECTIVES.items()}
    FILE.write_text(json.dumps(curves, indent=1) + "\n")
