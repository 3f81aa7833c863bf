"""Sums over the places of each channel, however these lie in memory.

Dimension key: b examples, o channels, *l axes of places, n places.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.selection.parts import in_parts

_FEW = 32
"""Numbers that are soon gone through one after another."""
_CACHED = 1 << 18
"""Numbers that are gone through twice at once."""


def channels_last(x: Tensor) -> bool:
    """Whether an image's channels stand beside one another in memory, and its places do not."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()


def inner(x: Float[Tensor, "b o *l"], y: Float[Tensor, "b o *l"]) -> Float[Tensor, "b o"]:
    """Sums of products, of some examples at a time."""
    step = max(1, _CACHED // x[0].numel())
    found = [summed((one * other).unsqueeze(-1).flatten(2)) for one, other in in_parts(step, x, y)]
    return found[0] if len(found) == 1 else torch.cat(found)


def summed(x: Float[Tensor, "b o n"]) -> Float[Tensor, "b o"]:
    """Sums; of few numbers by a product, for a sum goes through them one by one."""
    is_long = x.shape[2] > _FEW or x.stride(2) > 1
    return x.sum(dim=2) if is_long else x @ x.new_ones(x.shape[2])
