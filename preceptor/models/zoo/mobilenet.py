"""MobileNetV2 for 32x32 images.

Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen. "MobileNetV2:
Inverted Residuals and Linear Bottlenecks". CVPR 2018. arXiv:1801.04381, table 2.
"""

from torch import Tensor, nn

from preceptor.models.zoo.parts import classifier, conv_norm, conv_norm_relu, he_normal

# Output channels, blocks, first stride. Unlike the paper's 224x224 table, the second row keeps
# its resolution: with the stem's stride, 32x32 pixels end as 2x2.
_ROWS = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
_LAST = 1280


class Block(nn.Module):
    """An inverted residual: widen, convolve each channel, narrow without a ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.body = nn.Sequential(
            *conv_norm_relu(inputs, inner, 1),
            *conv_norm_relu(inner, inner, stride=stride, groups=inner),
            *conv_norm(inner, outputs, 1),
        )
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        return x + self.body(x) if self.residual else self.body(x)


def mobilenetv2(classes: int, channels: int, *, width: float, expansion: int) -> nn.Sequential:
    """MobileNetV2 with all channels but the last layer's times `width`."""
    inputs = int(32 * width)
    stem = conv_norm_relu(channels, inputs, stride=2)
    stages = []
    for number, (full, count, stride) in enumerate(_ROWS):
        outputs, factor = int(full * width), 1 if number == 0 else expansion
        blocks = [Block(inputs, outputs, stride, factor)]
        blocks += [Block(outputs, outputs, 1, factor) for _ in range(count - 1)]
        stages.append(nn.Sequential(*blocks))
        inputs = outputs
    last = conv_norm_relu(inputs, _LAST, 1)
    return he_normal(classifier(stages, _LAST, classes, stem=stem, last=last))
