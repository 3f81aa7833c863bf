"""A tiny real training that the tests of the loop share: toy images, an MLP, a frozen teacher."""

import math

import torch
from torch import nn

from preceptor.data.image_source import ImageSource, rest
from preceptor.data.stratified import few_labels
from preceptor.data.toy import toy_images
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.training import Training

IMAGES = toy_images()
SGD = OptimizerPlan(name="sgd", lr=0.1, momentum=0.9)


def mlp(seed: int, width: int = 16, dropout: float = 0.0) -> TappedModel:
    """Two layers, no BatchNorm; taps "1" (hidden) and "4" (logits)."""
    torch.manual_seed(seed)
    pixels = math.prod(IMAGES.shape)
    layers = [
        nn.Flatten(),
        nn.Linear(pixels, width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, IMAGES.num_classes),
    ]
    return TappedModel(nn.Sequential(*layers), head="4")


def source(seed: int = 0, batch: int = 12, unlabelled: int = 0) -> ImageSource:
    """Thirty labelled images, the rest without labels where asked for."""
    labelled = few_labels(IMAGES.labels, 30, seed)
    return ImageSource(
        IMAGES,
        labelled=labelled,
        unlabelled=rest(IMAGES, labelled),
        batch=batch,
        unlabelled_batch=unlabelled,
        seed=seed,
    )


def training(
    objective: Objective | None = None,
    *,
    plan: Plan | None = None,
    student: TappedModel | list[TappedModel] | None = None,
    teacher: Teacher | None = None,
    unlabelled: int = 8,
) -> Training:
    """Everything put together, the same each time."""
    return Training(
        student or mlp(1),
        teacher or Live(mlp(2, width=32)),
        objective or 0.1 * CE() + 0.9 * KD(temperature=4.0),
        source(unlabelled=unlabelled),
        plan or Plan(steps=12, batch=12, optimizer=SGD),
        seed=3,
    )


def weights(done: Training, member: int = 0) -> dict[str, torch.Tensor]:
    """A member's weights after training."""
    return {k: v.clone() for k, v in done.students()[member].state_dict().items()}
