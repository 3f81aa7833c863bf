"""Products of matrices on a processor, by the faster of the two libraries that torch brings.

Torch takes them in single precision from MKL, which on processors of other makers leaves a good
part of the time unused (8 to 40 % on an AMD EPYC); oneDNN, that it takes convolutions from, does
not. What is given is rounded otherwise, in the last bits.

Dimension key: *n leading axes, a and o in- and outputs.
"""

import platform

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_HAS_BOTH = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
_ONE_DNN = torch.ops.mkldnn._linear_pointwise.default if _HAS_BOTH else None
_FEW = 1 << 20
"""Products of numbers below which a call is what takes the time."""


def product(
    x: Float[Tensor, "*n a"], weight: Float[Tensor, "o a"], bias: Tensor | None = None
) -> Float[Tensor, "*n o"]:
    """x @ weight.T + bias: where gradients are not followed, by the faster of the two."""
    numbers, kind = x.numel() * weight.shape[0], torch.float32
    if _ONE_DNN is None or numbers < _FEW or not x.dtype == weight.dtype == kind:
        return F.linear(x, weight, bias)
    if not x.is_cpu or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    bias = bias if bias is None or bias.dtype == kind else bias.to(kind)
    return _ONE_DNN(x, weight, bias, "none", [], "")
