"""Random crops and flips that are a pure function of the example and the number of its view.

Dimension key: b examples, c channels, h height, w width.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.counter import below, words
from preceptor.errors import DataError
from preceptor.fields import Index, check_ranges

_SEEDS = 2**31


@final
@dataclass(frozen=True)
class Augment:
    """The CIFAR literature's augmentation: a random crop of the padded image, a random flip.

    Krizhevsky and later He et al. (arXiv:1512.03385, section 4.2): 4 black pixels on each side,
    a random crop of the original size, a horizontal flip of every second image.

    An example's crop and flip depend on its id and its view alone; never on the order, the size
    or the sharing out of batches. View 0 is the plain image.

    Args:
        crop: pixels of padding on each side; 0 for no crop.
        flip: whether half of the views are mirrored. Not for digits, letters or road signs.
        views: how many different views an example has, used in turn epoch by epoch and the same
            for every seed, so that a cache can hold them all; 0 for a new one every epoch.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    crop: Index = 4
    flip: bool = True
    views: Index = 0

    def __post_init__(self) -> None:
        check_ranges(self)

    def view(self, epochs: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """The view's number in each epoch, from 1.

        >>> Augment(views=2).view(np.arange(4), seed=7).tolist()
        [1, 2, 1, 2]
        """
        if self.views:
            return 1 + epochs % self.views
        return 1 + epochs + (seed % _SEEDS) * 2**32

    def __call__(
        self,
        pixels: UInt8[Tensor, "b c h w"],
        ids: Int[Tensor, " b"],
        view: Int[Tensor, " b"],
    ) -> UInt8[Tensor, "b c h w"]:
        """The views of the images, of the same size; `pixels` stays as it is."""
        drawn = words(view.numpy(), ids.numpy(), np.arange(3)[:, None])  # [3, B]
        plain = view.numpy() == 0
        images = pixels.numpy()
        if self.crop:
            side = 2 * self.crop + 1
            top, left = (np.where(plain, self.crop, below(side, row)) for row in drawn[:2])
            images = self._cropped(images, top, left)
        if self.flip:
            mirrored = (below(2, drawn[2]) == 1) & ~plain
            images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
        return torch.from_numpy(np.ascontiguousarray(images))

    def _cropped(
        self, images: NDArray[np.uint8], top: NDArray[np.int64], left: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        b, c, h, w = images.shape
        if self.crop >= min(h, w):
            raise DataError(
                f"a crop of {self.crop} pixels on images of {h} by {w}",
                "some crops would hold nothing of the image",
                "Choose a smaller `crop`; 4 suits 32 by 32.",
            )
        padded = np.zeros((b, c, h + 2 * self.crop, w + 2 * self.crop), dtype=np.uint8)
        padded[:, :, self.crop : self.crop + h, self.crop : self.crop + w] = images
        # [B, C, 2 crop + 1, 2 crop + 1, H, W], which shares the padded images' memory
        windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
        return windows[np.arange(b), :, top, left]
