"""Weights rounded to 8 bits, as a server that stores them so would see them.

Each output row of a weight is divided by its largest absolute value over 127 and rounded to an
integer: symmetric, a scale a row, the form of bitsandbytes' and torchao's weight-only int8.
Activations stay as they are, so this says nothing of arithmetic in 8 bits.
"""

import torch
from torch import Tensor, nn

LEVELS = 127


def round_weights(model: nn.Module) -> int:
    """Round the weights of all linear layers and convolutions in place; how many numbers these are.

    A weight that is also an embedding's (a tied head) stays: it is looked up, not multiplied. So
    do biases, norms and embeddings.
    """
    held = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    rounded = 0
    with torch.no_grad():
        for part in model.modules():
            axis = _row_axis(part)
            if axis is None or id(part.weight) in held:
                continue
            weight = part.get_parameter("weight")
            held.add(id(weight))
            weight.copy_(in_8_bits(weight, axis))
            rounded += weight.numel()
    return rounded


def in_8_bits(weight: Tensor, axis: int = 0) -> Tensor:
    """The weight with each slice along `axis` rounded to 255 levels.

    >>> in_8_bits(torch.tensor([[1.27, 0.004, -0.006], [0.0, 0.0, 0.0]]))
    tensor([[ 1.2700,  0.0000, -0.0100],
            [ 0.0000,  0.0000,  0.0000]])
    """
    others = tuple(i for i in range(weight.dim()) if i != axis)
    scale = weight.abs().amax(dim=others, keepdim=True).float() / LEVELS
    steps = torch.where(scale > 0, weight.float() / scale.clamp_min(1e-38), 0.0).round()
    return (steps * scale).to(weight.dtype)


def _row_axis(part: nn.Module) -> int | None:
    """Which axis of its weight counts outputs; None where it is no linear layer or convolution."""
    if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return 0
    # GPT-2's linear layer keeps its weight turned round.
    return 1 if type(part).__name__ == "Conv1D" else None
