"""How much of the test images stands among the training images, exactly or nearly.

Images of one kind are alike: of digits on 8 by 8 pixels every second one has another at a
correlation of 0.95. So a test image counts as nearly a training image only where it is closer to it
than training images are to one another.

Dimension key: n images, m test images, r sampled images, c channels, h height, w width, k by l
scaled down, p pixels.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from preceptor.evaluate.contamination import NAMED, Contamination

_ALIKE = 0.95
_AMONG = 0.999
"""The share of training images that have none so close to them as a match must be."""
_SAMPLED = 2048
_SMALLEST = 16
_PIXELS = 16
_THUMB = 8
_SEED = 0


def of_images(
    train: Iterable[UInt8[Tensor, "_ c h w"]],
    test: Iterable[UInt8[Tensor, "_ c h w"]],
    *,
    trained_name: Callable[[int], str] = str,
    tested_name: Callable[[int], str] = str,
) -> Contamination:
    """Look for test images among training images, both read once, a chunk at a time.

    Args:
        train: training images.
        test: test images.
        trained_name: what a training image is called, by its number.
        tested_name: the same of a test image.
    """
    held, shown, sample = _Pictures.of(test), 0, _Sample(np.random.default_rng(_SEED))
    exact: dict[int, int] = {}
    close: dict[int, tuple[float, int]] = {}
    for chunk in train:
        for row, picture in enumerate(chunk):
            for index in held.same.get(_bytes(picture), ()):
                exact.setdefault(index, shown + row)
        for index, row, alike in held.close(chunk):
            close[index] = max(close.get(index, (-1.0, 0)), (alike, -shown - row))
        sample.take(chunk)
        shown += len(chunk)
    least = _ALIKE if held.small or not close else max(_ALIKE, sample.closest())
    near = {
        index: -row for index, (alike, row) in close.items() if alike > least and index not in exact
    }
    said = [(index, "is", row) for index, row in sorted(exact.items())]
    said += [(index, "resembles", row) for index, row in sorted(near.items())]
    return Contamination(
        tested=held.count,
        trained=shown,
        exact=len(exact),
        near=len(near),
        unjudged=held.count if held.small else 0,
        how=(
            f"as it is: every pixel; nearly: pixels correlate by more than {least:.3f}, at "
            f"{_THUMB} by {_THUMB} and at up to {_PIXELS} by {_PIXELS}: by more than {_ALIKE}, and "
            f"by more than {100 * _AMONG:.1f} % of up to {_SAMPLED} training images do with any "
            f"other of these; images of less than {_SMALLEST} pixels a side, before they were "
            "enlarged, are not judged"
        ),
        found=tuple(
            f"test image {tested_name(index)} {does} training image {trained_name(row)}"
            for index, does, row in said[:NAMED]
        ),
    )


@final
@dataclass(frozen=True)
class _Pictures:
    """Test images: by their bytes, and scaled down; `factor` is how often each pixel stands."""

    count: int
    factor: int
    small: bool
    same: dict[bytes, list[int]]
    thumbs: Float[Tensor, "m p"]
    details: UInt8[Tensor, "m c k l"]

    @staticmethod
    def of(test: Iterable[UInt8[Tensor, "_ c h w"]]) -> "_Pictures":
        same: dict[bytes, list[int]] = {}
        thumbs: list[Tensor] = []
        details: list[Tensor] = []
        count, factor, side = 0, 0, 0
        for chunk in test:
            for row, picture in enumerate(chunk):
                same.setdefault(_bytes(picture), []).append(count + row)
            count += len(chunk)
            side = min(chunk.shape[2:])
            factor = math.gcd(factor, _enlarged(chunk))
            thumbs.append(_thumb(chunk))
            details.append(_detail(chunk))
        small = side < _SMALLEST * factor
        return _Pictures(count, factor, small, same, torch.cat(thumbs), torch.cat(details))

    def close(self, chunk: UInt8[Tensor, "n c h w"]) -> Iterator[tuple[int, int, float]]:
        """Test images with the row of the chunk that they are like, and how much."""
        if self.small:
            return
        like = _thumb(chunk) @ self.thumbs.T
        rows, indices = (like >= _ALIKE).nonzero(as_tuple=True)
        for some in torch.arange(len(rows)).split(4096):
            row, index = rows[some], indices[some]
            own, theirs = _detail(chunk[row]), self.details[index]
            alike = (_unit(own.float()) * _unit(theirs.float())).sum(dim=1)
            alike = torch.minimum(alike, like[row, index])
            enough = alike >= _ALIKE
            each = (index, row, alike)
            yield from zip(*(one[enough].tolist() for one in each), strict=True)


@final
class _Sample:
    """Some training images, the same ones in whatever chunks they come."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._kept: list[tuple[float, bytes, Tensor, Tensor]] = []

    def take(self, chunk: UInt8[Tensor, "n c h w"]) -> None:
        """Keep the images with the lowest lots."""
        lots = self._generator.random(len(chunk))
        most = self._kept[-1][0] if len(self._kept) == _SAMPLED else 1.0
        rows = (lots < most).nonzero()[0]
        if not len(rows):
            return
        some = chunk[torch.from_numpy(rows)]
        digests = [hashlib.blake2b(_bytes(one)).digest() for one in some]
        each = zip(lots[rows].tolist(), digests, _thumb(some), _detail(some), strict=True)
        self._kept = sorted([*self._kept, *each], key=lambda one: one[0])[:_SAMPLED]

    def closest(self) -> float:
        """How alike nearly no two of them are that are not the same; -1 where there are not two."""
        once = {one[1]: one for one in self._kept}.values()
        if len(once) < 2:
            return -1.0
        thumbs = torch.stack([one[2] for one in once])
        details = _unit(torch.stack([one[3] for one in once]).float())
        alike = torch.minimum(thumbs @ thumbs.T, details @ details.T).fill_diagonal_(-1.0)
        return float(np.quantile(alike.amax(dim=1).numpy(), _AMONG))


def _enlarged(chunk: UInt8[Tensor, "n c h w"]) -> int:
    """How often each pixel stands in a row and in a column: 2 where 8 by 8 became 16 by 16."""
    height, width = chunk.shape[2:]
    found = 0
    for dim, side in ((2, height), (3, width)):
        changes = (chunk.diff(dim=dim) != 0).movedim(dim, 0).flatten(1).any(dim=1)
        found = math.gcd(found, side, *(changes.nonzero().flatten() + 1).tolist())
    return found


def _thumb(chunk: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n p"]:
    return _unit(adaptive_avg_pool2d(chunk.float().mean(dim=1, keepdim=True), _THUMB))


def _detail(chunk: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c k l"]:
    sides = [min(side, _PIXELS) for side in chunk.shape[2:]]
    return adaptive_avg_pool2d(chunk.float(), (sides[0], sides[1])).round().to(torch.uint8)


def _unit(pictures: Float[Tensor, "n ..."]) -> Float[Tensor, "n p"]:
    """Around its own mean, of length 1; zeros where an image is of one colour."""
    flat = pictures.flatten(1)
    return torch.nn.functional.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1, eps=1e-3)


def _bytes(picture: UInt8[Tensor, "c h w"]) -> bytes:
    return picture.contiguous().numpy().tobytes()
