"""What one pass shows of a model: how many classes it tells apart, and which module does it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.shapes import Visit, visits
from preceptor.models.tapped import TappedModel

_SIZES = (32, 224, 28, 8, 64, 96, 16, 384)


@dataclass(frozen=True)
class Sight:
    """How many logits a model gives for images of a shape, and its linear classifier's name.

    `head` is empty where no one layer gives the logits.
    """

    shape: tuple[int, ...]
    classes: int
    head: str


def sight(model: TappedModel, shape: Sequence[int]) -> Sight | None:
    """What a pass of images of a shape [C, H, W] shows; it leaves no trace.

    An empty shape means an unknown one: usual ones are tried, and where the model takes none of
    them the answer is None.
    """
    if shape:
        return _look(model, shape)
    for channels in _channels(model):
        for size in _SIZES:
            try:
                return _look(model, (channels, size, size))
            except ModelError:
                continue
    return None


def _look(model: TappedModel, shape: Sequence[int]) -> Sight:
    try:
        outputs, seen = visits(model, images(model, shape))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ModelError(
            f"images of shape {list(shape)} were shown to the model",
            f"it answered {type(error).__name__}: {error}",
            "Give the shape that it takes as `shape: [channels, height, width]`.",
        ) from error
    heads = [visit.name for visit in seen if _gives(visit, outputs.logits)]
    return Sight(tuple(shape), outputs.logits.shape[-1], heads[-1] if heads else "")


def _gives(visit: Visit, logits: Tensor) -> bool:
    """Whether a linear layer or 1x1 convolution returned the logits."""
    module, output = visit.module, visit.outputs.get("")
    if not isinstance(module, nn.Linear | nn.Conv2d) or output is None:
        return False
    if isinstance(module, nn.Conv2d) and (module.kernel_size != (1, 1) or module.groups != 1):
        return False
    return output.numel() == logits.numel() and torch.equal(output.reshape(logits.shape), logits)


def images(model: nn.Module, shape: Sequence[int]) -> Tensor:
    """Two images on the model's device, the same ones every time."""
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, *shape, generator=generator).to(device)


def _channels(model: TappedModel) -> tuple[int, ...]:
    if model.mean:
        return (len(model.mean),)
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    return (3, 1) if first is None else (first.in_channels,)
