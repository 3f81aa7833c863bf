"""Plain networks: convolutions one after another, and a multi-layer perceptron.

At one channel and ten classes `cnn-large` has 288,170 parameters and `cnn-small` 3,778: a teacher
and a student for 8x8 digits. `cnn-deep` is as wide as the latter, for methods that need that.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from preceptor.models.zoo.parts import classifier, conv_norm_relu, he_normal


def cnn(classes: int, channels: int, *, widths: tuple[int, ...], per_stage: int) -> nn.Sequential:
    """A stage a width, each of `per_stage` 3x3 convolutions; all but the first halve the image."""
    stages = []
    for number, (inputs, outputs) in enumerate(pairwise((channels, *widths))):
        first = conv_norm_relu(inputs, outputs, stride=1 if number == 0 else 2)
        more = [conv_norm_relu(outputs, outputs) for _ in range(per_stage - 1)]
        stages.append(nn.Sequential(first, *more))
    return he_normal(classifier(stages, widths[-1], classes))


def mlp(
    classes: int, channels: int, size: int, *, widths: Sequence[int] = (256, 256)
) -> nn.Sequential:
    """Flattened pixels through linear layers of `widths`, each with a ReLU."""
    parts: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    all_widths = (channels * size * size, *widths)
    for number, (inputs, outputs) in enumerate(pairwise(all_widths), 1):
        parts.append((f"stage{number}", nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())))
    parts.append(("head", nn.Linear(all_widths[-1], classes)))
    return nn.Sequential(OrderedDict(parts))
