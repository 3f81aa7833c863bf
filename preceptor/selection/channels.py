"""Whether a processor's convolutions are run on images whose channels lie last in memory.

They are faster so, and so is what stands between them; what is given is rounded otherwise, in the
last bits. The first one turns what it gives, and all others give what they are given.
"""

from typing import final

import torch
from torch import Tensor


@final
class Channels:
    """What the passes so far have shown."""

    def __init__(self) -> None:
        self._are_last, self._is_mixed = True, False

    def are_turned(self, x: Tensor, weight: Tensor) -> bool:
        """Whether a convolution of x is to lay them last, where they do not lie so already."""
        is_image = x.dim() == 4 and x.shape[2:].numel() > 1 < x.shape[0] and x.device.type == "cpu"
        is_single = x.dtype == weight.dtype == torch.float32
        if not (self._are_last and is_image and is_single):
            return False
        if x.is_contiguous(memory_format=torch.channels_last):
            return False
        self._is_mixed |= x.requires_grad
        return True

    def turn_back(self) -> None:
        """Note that what is made of images is made of them as they lie."""
        self._is_mixed = True

    def settle(self) -> None:
        """Leave them as they lie from now on, where a student has turned them back on the way."""
        self._are_last &= not self._is_mixed

    def leave(self) -> bool:
        """Leave them as they lie: something has failed. Whether they were turned before."""
        were_last, self._are_last = self._are_last, False
        return were_last
