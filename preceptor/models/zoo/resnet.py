"""Residual networks for 32x32 images.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun. "Deep Residual Learning for Image Recognition".
CVPR 2016. arXiv:1512.03385, section 4.2. Widths "x4" are the distillation literature's.
"""

from itertools import pairwise

from torch import Tensor, nn

from preceptor.models.zoo.parts import classifier, conv_norm, conv_norm_relu, he_normal


class Block(nn.Module):
    """relu(F(x) + shortcut(x)) with two 3x3 convolutions in F.

    Unlike the paper's CIFAR networks (zero-padded shortcuts, option A), a shortcut that changes
    its shape is a 1x1 convolution (option B), as the distillation literature has it.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_norm_relu(inputs, outputs, stride=stride), *conv_norm(outputs, outputs)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride=stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        return self.relu(self.body(x) + self.shortcut(x))


def resnet(classes: int, channels: int, *, depth: int, widths: tuple[int, ...]) -> nn.Sequential:
    """A network of 6n + 2 layers in three stages; `widths` are the stem's and the stages'."""
    count, rest = divmod(depth - 2, 6)
    assert rest == 0, "the depth is 6n + 2"
    stages = []
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        first = Block(inputs, outputs, stride=1 if number == 0 else 2)
        stages.append(nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(count - 1))))
    stem = conv_norm_relu(channels, widths[0])
    return he_normal(classifier(stages, widths[-1], classes, stem=stem))
