"""What the families of the zoo share."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn


def conv(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution that keeps the resolution at stride 1; without bias, since a norm follows."""
    padding = kernel // 2
    return nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False
    )


def conv_norm(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution and its batch norm."""
    return nn.Sequential(
        conv(inputs, outputs, kernel, stride=stride, groups=groups), nn.BatchNorm2d(outputs)
    )


def conv_norm_relu(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution, its batch norm and a ReLU."""
    layers = conv_norm(inputs, outputs, kernel, stride=stride, groups=groups)
    return layers.append(nn.ReLU(inplace=True))


def classifier(
    stages: Sequence[nn.Module],
    width: int,
    classes: int,
    *,
    stem: nn.Module | None = None,
    last: nn.Module | None = None,
) -> nn.Sequential:
    """stem, stage1, stage2, ..., last, pool, flatten, head: the same names in every family."""
    parts: list[tuple[str, nn.Module]] = [] if stem is None else [("stem", stem)]
    parts += [(f"stage{number}", stage) for number, stage in enumerate(stages, 1)]
    if last is not None:
        parts.append(("last", last))
    parts += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    parts.append(("head", nn.Linear(width, classes)))
    return nn.Sequential(OrderedDict(parts))


def he_normal(model: nn.Sequential) -> nn.Sequential:
    """The model, its convolutions drawn as He et al. 2015 do (fan out, ReLU), their biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
