"""Rows of numbers as small square images, so that whatever reads images reads them too.

A row's numbers fill the smallest square that holds them, row by row from the top left; what is left
over is 0. A perceptron flattens the square again and sees the row, with a few zeros behind it.

Dimension key: n rows, d numbers a row, l places, s the square's side.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor


def scaled(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Each column brought to 0 to 1 by its least and its greatest number; a constant one is 0."""
    least, span = rows.min(axis=0), np.ptp(rows, axis=0)
    return (rows - least) / np.where(span > 0, span, 1.0)


def one_hot(tokens: Int[np.ndarray, "n l"], vocabulary: Sequence[int]) -> Float[np.ndarray, "n d"]:
    """Each place's token as as many numbers as the place knows tokens, all 0 but one.

    >>> one_hot(np.array([[1, 0]]), (2, 3)).tolist()
    [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    places = [tokens[:, [place]] == np.arange(size) for place, size in enumerate(vocabulary)]
    return np.concatenate(places, axis=1).astype(np.float64)


def square_images(rows: Shaped[np.ndarray, "n d"]) -> UInt8[Tensor, "n 1 s s"]:
    """Rows of fractions from 0 to 1 as gray images in 256 steps.

    >>> square_images(np.array([[0.0, 0.5, 1.0]]))[0, 0].tolist()
    [[0, 128], [255, 0]]
    """
    count, width = rows.shape
    side = math.isqrt(width - 1) + 1
    pixels = np.zeros((count, side * side), dtype=np.uint8)
    pixels[:, :width] = np.rint(255.0 * rows)
    return torch.from_numpy(pixels.reshape(count, 1, side, side))
