"""A convolutional network that begins inside a larger one: UCI digits, few of them to learn from.

Every arm sees the same hundred labelled images; the teacher has seen all of them.
"""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from preceptor.data.image_source import ImageSource
from preceptor.data.images import ImageData, ImageSet
from preceptor.data.loading import load_images
from preceptor.models.load import load, load_model, save_model
from preceptor.models.predict import predict
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.students.start import Plan as Start
from preceptor.students.start import begin
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.train.fit import fit
from preceptor.train.plan import OptimizerPlan, Plan, SchedulePlan

LABELLED = 100
_BATCH = 64

STUDENTS: dict[str, dict[str, Any]] = {
    "cnn-small": {"zoo": "cnn-small", "classes": 10},
    "half as wide": {
        "factory": "preceptor.models.zoo.plain:cnn",
        "arguments": {"classes": 10, "channels": 1, "widths": (16, 32, 64), "per_stage": 1},
    },
}
"""`cnn-small` has a quarter of the teacher's channels, in its last stage an eighth."""

STARTS: dict[str, Start | None] = {
    "random": None,
    "select": Start("select"),
    "select, repair": Start("select", repair=True),
    "prune": Start("prune"),
    "prune, repair": Start("prune", repair=True),
}
"""Name -> how a student begins; None: as it was drawn."""


@final
@dataclass(frozen=True)
class ImageCourse:
    """One student's training.

    Args:
        start: of `STARTS`.
        taught: by 0.9 KD at temperature 4 beside 0.1 cross-entropy, instead of by labels alone.
        rate: the peak learning rate of SGD.
        seed: of the drawn weights, of the images and of their order.
        steps: of 64 images.
        student: of `STUDENTS`.
    """

    start: str
    taught: bool
    rate: float
    seed: int
    steps: int
    student: str


@final
@dataclass(frozen=True)
class Images:
    """`cnn-large` teaches `cnn-small`.

    Args:
        folder: keeps the teacher.
    """

    folder: Path

    @cached_property
    def data(self) -> ImageData:
        """The digits."""
        return load_images("digits", validation_share=0.15)

    @cached_property
    def teacher(self) -> TappedModel:
        """Trained here on every label, and kept."""
        if not self.folder.exists():
            drawn = _drawn({"zoo": "cnn-large", "classes": 10}, 1)
            images = self.data.train
            source = ImageSource(images, labelled=images.labelled, batch=_BATCH)
            plan = _plan(400, "adamw", 2e-3)
            for _ in fit(drawn, Nobody(), CE(), source, plan):
                pass
            save_model(drawn.eval(), self.folder)
        return load(self.folder).eval()

    def run(self, course: ImageCourse) -> dict[str, Any]:
        """One student from its start to its numbers: 1 for each test image that is wrong."""
        student = _drawn(STUDENTS[course.student], course.seed)
        start = STARTS[course.start]
        ids = _some(self.data.train, course.seed)
        if start is not None:
            seen = [self.data.train.batch(part).inputs for part in ids.split(50)]
            begin(student, self.teacher, start, calibration=seen)
        first = float(errors(student, self.data.validation).mean())
        source = ImageSource(self.data.train, labelled=ids, batch=_BATCH, seed=course.seed)
        objective: Objective[Any] = (
            0.1 * CE() + 0.9 * KD(temperature=4.0) if course.taught else CE()
        )
        plan = _plan(course.steps, "sgd", course.rate)
        begins = time.process_time()
        for _ in fit(student, Live(self.teacher), objective, source, plan):
            pass
        return {
            "seconds": time.process_time() - begins,
            "curve": [
                (0, first),
                (course.steps, float(errors(student, self.data.validation).mean())),
            ],
            "test": errors(student, self.data.test).tolist(),
        }


def errors(model: TappedModel, images: ImageSet) -> np.ndarray:
    """1 for each image that is taken for another class, 0 for the others."""
    found = predict(model.eval(), images.batches(256))
    return (found.logits.argmax(1) != found.labels).astype(np.float64)


def _some(images: ImageSet, seed: int) -> torch.Tensor:
    """As many labelled images of each class."""
    generator = torch.Generator().manual_seed(seed)
    each = LABELLED // images.num_classes
    rows = [(images.labels == label).nonzero().flatten() for label in range(images.num_classes)]
    return torch.cat([own[torch.randperm(len(own), generator=generator)[:each]] for own in rows])


def _drawn(said: dict[str, Any], seed: int) -> TappedModel:
    torch.manual_seed(seed)
    return load_model({**said, "channels": 1, "size": 8})


def _plan(steps: int, optimizer: Any, rate: float) -> Plan:
    return Plan(
        steps=steps,
        batch=_BATCH,
        optimizer=OptimizerPlan(name=optimizer, lr=rate),
        schedule=SchedulePlan("cosine"),
    )
