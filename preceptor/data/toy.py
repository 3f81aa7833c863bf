"""Tiny seeded images for tests, documentation and a first look."""

import numpy as np
import torch

from preceptor.data.images import ImageData, ImageSet, image_data, image_set
from preceptor.data.stratified import parted

_SIDE = 8
_NOISE = 40


def toy_images(count: int = 240, classes: int = 3, seed: int = 0) -> ImageSet:
    """Gray images of 8 by 8: a soft bar in noise, whose angle is the class.

    Bars lie anywhere, so that a classifier has to look at more than single pixels; a few steps
    of training suffice. Class sizes differ by at most one.
    """
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    angle = np.pi * labels / classes
    offset = generator.uniform(-1.5, 1.5, count)
    y, x = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2  # [H, W] each
    distance = np.cos(angle)[:, None, None] * y + np.sin(angle)[:, None, None] * x
    bar = 200 * np.exp(-((distance - offset[:, None, None]) ** 2))
    noisy = bar + _NOISE * generator.random((count, _SIDE, _SIDE))
    pixels = torch.from_numpy(np.rint(noisy).astype(np.uint8))[:, None]
    names = tuple(f"{round(180 * index / classes)} degrees" for index in range(classes))
    return image_set(pixels, torch.from_numpy(labels), names)


def toy_image_data(count: int = 240, classes: int = 3, seed: int = 0) -> ImageData:
    """Toy images with a quarter each for validation and test."""
    images = toy_images(count, classes, seed)
    rest, test = parted(images.labels, count // 4, (seed,))
    train, validation = parted(images.labels[rest], count // 4, (seed,))
    sets = (images.subset(rows) for rows in (rest[train], rest[validation], test))
    return image_data(*sets, origin=f"toy images, seed {seed}")
