"""Small image files for the readers' tests."""

import io

import numpy as np
from PIL import Image


def picture(number=0, side=6, mode="RGB", width=None):
    """A seeded picture of noise."""
    shape = (side, width or side, 3)
    noise = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def png(image):
    """The bytes of a picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def fill(root, classes, each=5, **options):
    """A folder for each class with `each` pictures in it."""
    for index, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            picture(100 * index + number, **options).save(root / name / f"{number}.png")
    return root


def pixels(image):
    """A picture as uint8 [c, h, w]."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
