"""Wide residual networks.

Sergey Zagoruyko, Nikos Komodakis. "Wide Residual Networks". BMVC 2016. arXiv:1605.07146.
"""

from itertools import pairwise

from torch import Tensor, nn

from preceptor.models.zoo.parts import classifier, conv, he_normal


class Block(nn.Module):
    """x + F(x), the norm and ReLU before each of the two convolutions in F.

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.body = nn.Sequential(
            conv(inputs, outputs, stride=stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            conv(outputs, outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else conv(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        active = self.enter(x)
        kept = x if self.shortcut is None else self.shortcut(active)
        return kept + self.body(active)


def wrn(classes: int, channels: int, *, depth: int, widen: int) -> nn.Sequential:
    """WRN-depth-widen: 6n + 4 layers in three stages of widths 16, 32, 64 times `widen`."""
    count, rest = divmod(depth - 4, 6)
    assert rest == 0, "the depth is 6n + 4"
    widths = (16, 16 * widen, 32 * widen, 64 * widen)
    stages = []
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        first = Block(inputs, outputs, stride=1 if number == 0 else 2)
        stages.append(nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(count - 1))))
    last = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True))
    stem = conv(channels, widths[0])
    return he_normal(classifier(stages, widths[-1], classes, stem=stem, last=last))
