"""VGG for 32x32 images.

Karen Simonyan, Andrew Zisserman. "Very Deep Convolutional Networks for Large-Scale Image
Recognition". ICLR 2015. arXiv:1409.1556, table 1.
"""

from itertools import pairwise

from torch import nn

from preceptor.models.zoo.parts import classifier, he_normal

_WIDTHS = (64, 128, 256, 512, 512)


def vgg(classes: int, channels: int, *, per_stage: int) -> nn.Sequential:
    """Five stages of `per_stage` convolutions: 1 is VGG8, 2 is VGG13.

    Unlike the paper, with batch norm, one linear layer after a global mean, and three poolings:
    32x32 pixels end as 4x4, as the distillation literature has it.
    """
    stages = []
    for number, (inputs, outputs) in enumerate(pairwise((channels, *_WIDTHS))):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number in (1, 2, 3) else []
        for source in (inputs, *(outputs,) * (per_stage - 1)):
            # The paper's convolutions have a bias, and the published counts include it.
            layers.append(nn.Conv2d(source, outputs, 3, padding=1))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        stages.append(nn.Sequential(*layers))
    return he_normal(classifier(stages, _WIDTHS[-1], classes))
