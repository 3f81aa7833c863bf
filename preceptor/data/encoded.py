"""Image files as they lie, decoded to one size and one number of channels when asked for.

Dimension key: n images, c channels, h height, w width.
"""

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from preceptor.errors import DataError

_CHUNK = 128
_GRAY = ("1", "L", "LA")
_SIXTEEN_BITS = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Encoded:
    """One image as a file's bytes, or where they are, and what to call it in a message."""

    name: str
    content: bytes | Path

    def read(self) -> bytes:
        """The bytes of the file."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    def size(self) -> int:
        """How many bytes that is."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return self.content.stat().st_size


@final
class EncodedImages:
    """Images that are decoded each time they are read: for sets that do not fit in memory.

    Args:
        items: the images.
        shape: channels, height and width that all are brought to.
        resize: whether an image of another size is resized, or refused.
        convert: whether an image with another number of channels is converted, or refused.
    """

    def __init__(
        self, items: Sequence[Encoded], shape: tuple[int, int, int], resize: bool, convert: bool
    ) -> None:
        self.items = tuple(items)
        self.shape = (len(self.items), *shape)
        self._resize, self._convert = resize, convert

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        chosen = [self.items[row] for row in rows.tolist()]
        decoded = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)

        def fill(start: int) -> None:
            for row in range(start, min(start + chunk, len(chosen))):
                decoded[row] = self._decoded(chosen[row])

        threads = min(8, os.cpu_count() or 1)
        chunk = max(1, min(_CHUNK, -(-len(chosen) // threads)))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(0, len(chosen), chunk)))
        return torch.from_numpy(decoded)

    def decoded(self) -> UInt8[Tensor, "n c h w"]:
        """All images, in memory."""
        return self[torch.arange(len(self))]

    def chosen(self, rows: Int[Tensor, " b"]) -> "EncodedImages":
        """Some of the images, still encoded."""
        items = [self.items[row] for row in rows.tolist()]
        return EncodedImages(items, self.shape[1:], self._resize, self._convert)

    def check(self) -> None:
        """Raise `DataError` where a file's head says that the image cannot be used."""
        for item in self.items:
            with _opened(item) as image:
                self._check_shape(item, *_shape(item, image))

    def fingerprint(self) -> bytes:
        """A hash of the names and lengths of the files; their pixels are not read."""
        digest = hashlib.sha256(repr((self.shape, self._resize, self._convert)).encode())
        for item in self.items:
            digest.update(f"{Path(item.name).name}\0{item.size()}\0".encode())
        return digest.digest()

    def _decoded(self, item: Encoded) -> NDArray[np.uint8]:
        with _opened(item) as image:
            c, h, w = _shape(item, image)
            self._check_shape(item, c, h, w)
            try:
                image.load()
                upright = ImageOps.exif_transpose(image) if _orientation(image) > 1 else image
            except (OSError, ValueError, SyntaxError) as error:
                raise _unreadable(item, error) from error
            return fitted(upright, self.shape[1:])

    def _check_shape(self, item: Encoded, c: int, h: int, w: int) -> None:
        channels, height, width = self.shape[1:]
        if c != channels and not self._convert:
            raise DataError(
                f"{item.name} has {_colour(c)}, the first image has {_colour(channels)}",
                "all images of a set need the same number of channels",
                "Set `channels` to 3 or 1 to convert them.",
            )
        if (h, w) != (height, width) and not self._resize:
            raise DataError(
                f"{item.name} is {h} by {w} pixels, the first image {height} by {width}",
                "all images of a set need the same size",
                "Set `size`, for instance `size: 32`, to resize them.",
            )


def encoded_shape(item: Encoded) -> tuple[int, int, int]:
    """Channels, height and width of an image, from the head of its file."""
    with _opened(item) as image:
        return _shape(item, image)


def fitted(image: Image.Image, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """An image as uint8 [c, h, w]: converted to gray or RGB, resized where its size differs.

    Bilinear with antialiasing; the whole image is kept, its aspect ratio is not. Transparency is
    dropped.
    """
    channels, height, width = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)


def _opened(item: Encoded) -> Image.Image:
    try:
        return Image.open(io.BytesIO(item.read()))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(item, error) from error


def _shape(item: Encoded, image: Image.Image) -> tuple[int, int, int]:
    if image.mode in _SIXTEEN_BITS:
        raise DataError(
            f"{item.name} has more than 8 bits a channel (mode {image.mode})",
            "reading it as 8 bits would clip its values",
            "Convert it to 8 bits first.",
        )
    w, h = image.size
    if _orientation(image) >= 5:  # a camera that was held sideways
        w, h = h, w
    return (1 if image.mode in _GRAY else 3), h, w


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 for upright; asks only files that say it in their head."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image in search of it
    return image.getexif().get(_ORIENTATION, 1)


def _colour(channels: int) -> str:
    return "one channel (gray)" if channels == 1 else "three channels (RGB)"


def _unreadable(item: Encoded, error: BaseException) -> DataError:
    return DataError(
        f"the image {item.name}",
        f"it cannot be read ({error})",
        "Replace the file, or remove it.",
    )
