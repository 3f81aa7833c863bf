"""A small zoo: the families that the distillation literature compares, by name.

Their heads are all one linear layer named `head`; convolutional ones have `stage1`, `stage2`, ...,
transformers `blocks.0`, `blocks.1`, ...
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from preceptor.errors import ModelError, nearest
from preceptor.models.zoo.mobilenet import mobilenetv2
from preceptor.models.zoo.plain import cnn, mlp
from preceptor.models.zoo.resnet import resnet
from preceptor.models.zoo.shufflenet import shufflenetv1, shufflenetv2
from preceptor.models.zoo.vgg import vgg
from preceptor.models.zoo.vit import vit
from preceptor.models.zoo.wrn import wrn

_NARROW, _WIDE = (16, 16, 32, 64), (32, 64, 128, 256)

_ZOO: dict[str, Callable[..., nn.Module]] = {
    "cnn-small": partial(cnn, widths=(8, 16, 16), per_stage=1),
    "cnn-deep": partial(cnn, widths=(8, 16, 16), per_stage=3),
    "cnn-large": partial(cnn, widths=(32, 64, 128), per_stage=2),
    "mlp": mlp,
    **{
        f"resnet{d}": partial(resnet, depth=d, widths=_NARROW) for d in (8, 14, 20, 32, 44, 56, 110)
    },
    **{f"resnet{d}x4": partial(resnet, depth=d, widths=_WIDE) for d in (8, 32)},
    **{f"wrn-{d}-{k}": partial(wrn, depth=d, widen=k) for d in (16, 40) for k in (1, 2)},
    "vgg8": partial(vgg, per_stage=1),
    "vgg13": partial(vgg, per_stage=2),
    "mobilenetv2": partial(mobilenetv2, width=0.5, expansion=6),
    "shufflenetv1": partial(shufflenetv1, groups=3),
    "shufflenetv2": shufflenetv2,
    "vit": vit,
}


def names() -> tuple[str, ...]:
    """Every model's name."""
    return tuple(_ZOO)


def find(name: str) -> Callable[..., nn.Module]:
    """What makes a model of that name.

    Errors:
        ModelError: there is none; it names the nearest.
    """
    builder = _ZOO.get(name.lower().replace("_", "-"))
    if builder is None:
        raise ModelError(
            f"the model {name!r} was asked of the zoo",
            "it has none of that name",
            f"Nearest: {nearest(name, _ZOO)}.",
        )
    return builder


def create(name: str, classes: int, channels: int = 3, size: int = 32, **options: Any) -> nn.Module:
    """A model of the zoo, its weights drawn from torch's generator.

    Args:
        name: one of `names()`; "wrn_16_2" and "WRN-16-2" are the same.
        classes: how many logits.
        channels, size: the images', [channels, size, size].
        options: what the family leaves open: `widths` of the mlp; `patch`, `width`, `depth` and
            `heads` of the vit.

    >>> model = create("resnet8x4", classes=100)
    >>> sum(parameter.numel() for parameter in model.parameters())
    1233540
    """
    builder = find(name)
    for what, number in (("classes", classes), ("channels", channels), ("size", size)):
        if number < 1:
            raise ModelError(f"{what} is {number}", "it counts something", "Give 1 or more.")
    known = inspect.signature(builder).parameters
    settled = builder.keywords if isinstance(builder, partial) else {}
    free = set(known) - set(settled) - {"classes", "channels", "size"}
    for option in options:
        if option not in free:
            raise ModelError(
                f"{option!r} was said of the zoo's {name!r}",
                f"it leaves open {', '.join(sorted(free)) or 'nothing'}",
                f"Nearest: {nearest(option, free)}.",
            )
    pixels = {"size": size} if "size" in known else {}
    return builder(classes=classes, channels=channels, **pixels, **options)
