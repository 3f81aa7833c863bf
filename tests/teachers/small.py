"""Small honest teachers, students and data that the tests of teachers share."""

import torch
from torch import Tensor, nn

from preceptor.models.tapped import TappedModel
from preceptor.types import Batch

CLASSES = 5


def cnn(seed: int = 0, *, dropout: float = 0.0) -> TappedModel:
    """A convolution with BatchNorm, dropout and a linear classifier, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential()
        module.add_module("conv", nn.Conv2d(3, 4, 3, padding=1))
        module.add_module("norm", nn.BatchNorm2d(4))
        module.add_module("pool", nn.AdaptiveAvgPool2d(1))
        module.add_module("flat", nn.Flatten())
        module.add_module("drop", nn.Dropout(dropout))
        module.add_module("fc", nn.Linear(4, CLASSES))
        nn.init.normal_(module.get_submodule("fc").get_parameter("weight"), std=2.0)
    return TappedModel(module, head="fc")


def images(ids: list[int], view: int = 0) -> Tensor:
    """Each id's image: a pure function of the id; view 1 is mirrored, view 2 is darker."""
    rows = [
        torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(1000 + number))
        for number in ids
    ]
    pixels = torch.stack(rows)
    return (pixels, pixels.flip(-1), pixels * 0.5)[view]


def batch_of(ids: list[int], view: int = 0, labels: list[int] | None = None) -> Batch:
    """A batch of these ids in one view; labels are id modulo the classes where not given."""
    given = [number % CLASSES for number in ids] if labels is None else labels
    return Batch(
        images(ids, view),
        labels=torch.tensor(given),
        ids=torch.tensor(ids),
        view=torch.full((len(ids),), view),
    )
