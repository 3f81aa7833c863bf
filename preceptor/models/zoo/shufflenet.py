"""ShuffleNet, both versions, for 32x32 images.

Xiangyu Zhang, Xinyu Zhou, Mengxiao Lin, Jian Sun. "ShuffleNet: An Extremely Efficient
Convolutional Neural Network for Mobile Devices". CVPR 2018. arXiv:1707.01083.
Ningning Ma, Xiangyu Zhang, Hai-Tao Zheng, Jian Sun. "ShuffleNet V2: Practical Guidelines for
Efficient CNN Architecture Design". ECCV 2018. arXiv:1807.11164.

Unlike the papers' 224x224 networks, the stem is a 1x1 convolution that keeps the resolution and
nothing is pooled before the first stage.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from preceptor.models.zoo.parts import classifier, conv_norm, conv_norm_relu

_STEM = 24


class Shuffle(nn.Module):
    """Interleaves the channels of `groups` groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], its channels in another order."""
        return rearrange(x, "b (g c) h w -> b (c g) h w", g=self.groups)


class UnitV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1 (figure 2 of the first paper)."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        # At stride 2 the pooled input takes the other channels. Unlike the paper, the bottleneck
        # is a quarter of what the body adds, not of the sum: the published counts have it so.
        added = outputs - inputs if stride == 2 else outputs
        inner = added // 4
        first = 1 if inputs == _STEM else groups  # Section 3.2: the first layer is not grouped.
        self.body = nn.Sequential(
            *conv_norm_relu(inputs, inner, 1, groups=first),
            Shuffle(first),
            # Unlike the paper, a ReLU after the depthwise convolution, as the literature has it.
            *conv_norm_relu(inner, inner, stride=stride, groups=inner),
            *conv_norm(inner, added, 1, groups=groups),
        )
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        if self.pool is None:
            return self.relu(self.body(x) + x)
        return self.relu(torch.cat([self.body(x), self.pool(x)], dim=1))


def shufflenetv1(classes: int, channels: int, *, groups: int) -> nn.Sequential:
    """ShuffleNet 1x with three groups: widths 240, 480, 960."""
    stages, inputs = [], _STEM
    for outputs, count in ((240, 4), (480, 8), (960, 4)):
        units = [UnitV1(inputs, outputs, 2, groups)]
        units += [UnitV1(outputs, outputs, 1, groups) for _ in range(count - 1)]
        stages.append(nn.Sequential(*units))
        inputs = outputs
    return classifier(stages, inputs, classes, stem=conv_norm_relu(channels, _STEM, 1))


class UnitV2(nn.Module):
    """Half of the channels pass unchanged, the others are convolved (figure 3c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            *conv_norm_relu(half, half, 1),
            *conv_norm(half, half, groups=half),
            *conv_norm_relu(half, half, 1),
        )
        self.shuffle = Shuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], the same shape."""
        kept, changed = x.chunk(2, dim=1)
        return self.shuffle(torch.cat([kept, self.body(changed)], dim=1))


class DownV2(nn.Module):
    """Both branches are convolved at stride 2 (figure 3d)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(
            *conv_norm(inputs, inputs, stride=2, groups=inputs), *conv_norm_relu(inputs, half, 1)
        )
        self.right = nn.Sequential(
            *conv_norm_relu(inputs, half, 1),
            *conv_norm(half, half, stride=2, groups=half),
            *conv_norm_relu(half, half, 1),
        )
        self.shuffle = Shuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / 2, W / 2]."""
        return self.shuffle(torch.cat([self.left(x), self.right(x)], dim=1))


def shufflenetv2(classes: int, channels: int) -> nn.Sequential:
    """ShuffleNetV2 1x: widths 116, 232, 464 and a last layer of 1024."""
    stages, inputs = [], _STEM
    for outputs, count in ((116, 4), (232, 8), (464, 4)):
        units = [DownV2(inputs, outputs), *(UnitV2(outputs) for _ in range(count - 1))]
        stages.append(nn.Sequential(*units))
        inputs = outputs
    last = conv_norm_relu(inputs, 1024, 1)
    stem = conv_norm_relu(channels, _STEM, 1)
    return classifier(stages, 1024, classes, stem=stem, last=last)
