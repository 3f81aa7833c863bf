"""Small heads that turn one model's map into another's, and what a map must be for that.

Dimension key: b examples, c channels, h and w of a map.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.objectives._adapters import BatchNorm
from preceptor.ops.maps import pooled


class Bottleneck(nn.Sequential):
    """1x1 to `outputs / factor` channels, 3x3, 1x1 to `outputs`; each normalised and rectified."""

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        middle = max(1, outputs // factor)
        super().__init__(
            *_layer(inputs, middle, 1), *_layer(middle, middle, 3), *_layer(middle, outputs, 1)
        )


def _layer(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    # Not in place: the tensor may be another objective's tap.
    return convolution, BatchNorm(outputs), nn.ReLU()


def shrunk(tensor: Float[Tensor, "b c h w"], size: Sequence[int]) -> Float[Tensor, "b c p q"]:
    """A map averaged down to at most `size`; a side that is smaller already stays."""
    height, width = tensor.shape[-2:]
    return pooled(tensor, (min(height, size[0]), min(width, size[1])))


def require_map(tap: Tensor, who: str, name: str) -> None:
    """Refuse a tap that is no map of channels over space."""
    if tap.ndim != 4:
        raise ModelError(
            f"the {who}'s tap {name!r} is {tuple(tap.shape)}",
            "this method reads a map [B, C, H, W]",
            "Name a convolutional stage in `layers`; tokens and vectors have no map.",
        )


def require_reads(channels: int, width: int, who: str, name: str) -> None:
    """Refuse a map that the classifier does not read."""
    if channels != width:
        raise ModelError(
            f"the {who}'s tap {name!r} has {channels} channels, its classifier reads {width}",
            "the method applies the classifier to the pooled map, so they must be equal",
            "Name the last map before pooling; models with several last layers cannot be used.",
        )
