"""Images that are arrays already: numpy, torch, and .npz files.

Dimension key: n images, c channels, h height, w width.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.data.raw import RawData, RawSet
from preceptor.errors import DataError

_CORRECT = "Correct or remove these images."
_IMAGES = ("images", "x")
_LABELS = ("labels", "y")
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def read_npz(path: Path) -> RawData:
    """The sets of a .npz file: `x_train`, `y_train`, `x_test`, `y_test`, or just `x` and `y`.

    `images` and `labels` do for `x` and `y`, and `train_images` for `images_train`; `val` names a
    validation set. Nothing is unpickled.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"the file {path}",
            f"it cannot be read as .npz ({error})",
            "Write it with numpy.savez, images and labels as plain arrays.",
        ) from error
    sets = {split: _pair(arrays, suffix, split) for suffix, split in _SPLITS.items()}
    sets = {split: found for split, found in sets.items() if found is not None}
    alone = _pair(arrays, "", "train")
    if not sets and alone is not None:
        sets = {"train": alone}
    if "train" not in sets:
        raise DataError(
            f"the file {path} holds the arrays {', '.join(sorted(arrays)) or '(none)'}",
            "images and labels for training are not among them",
            "Name them x_train and y_train (and x_test, y_test), or x and y.",
        )
    return RawData(sets["train"], sets.get("validation"), sets.get("test"), str(path))


def raw_arrays(images: Any, labels: Any, name: str) -> RawSet:
    """Images [n, h, w], [n, c, h, w] or [n, h, w, c], and labels [n], as a raw set.

    Whole numbers are 0 to 255. Fractions are 0 to 1 and are rounded to 256 steps. Labels are
    whole numbers, -1 for none, or class names.
    """
    pixels = _channels_first(_bytes(_array(images), name), name)
    indices, class_names = _indices(_array(labels), name)
    if len(pixels) != len(indices):
        raise DataError(
            f"the {name} set has {len(pixels)} images and {len(indices)} labels",
            "each image has one label",
            "Give as many labels as images; -1 means none.",
        )
    return RawSet(pixels, indices, class_names, name)


def _pair(arrays: dict[str, Any], suffix: str, split: str) -> RawSet | None:
    images, labels = (
        [
            arrays[key]
            for name in names
            for key in ((f"{name}_{suffix}", f"{suffix}_{name}") if suffix else (name,))
            if key in arrays
        ]
        for names in (_IMAGES, _LABELS)
    )
    return raw_arrays(images[0], labels[0], split) if images and labels else None


def _array(given: Any) -> NDArray[Any]:
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)


def _bytes(images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf" or not images.size:
        raise DataError(
            f"the {name} images are {images.size} numbers of type {images.dtype}",
            "pixels are whole numbers from 0 to 255 or fractions from 0 to 1",
            "Convert them first.",
        )
    fractions = images.dtype.kind == "f"
    if fractions:
        _refuse(~np.isfinite(images), "NaN or Inf", name, "no model can read that", _CORRECT)
    high, kind, do = (
        (1, "fractions", "Divide by 255 or give uint8; leave the normalisation to the model.")
        if fractions
        else (255, "whole numbers", _CORRECT)
    )
    outside = (images < 0) | (images > high)
    _refuse(outside, f"pixels outside 0 to {high}", name, f"{kind} mean 0 to {high}", do)
    return (np.rint(images * 255.0) if fractions else images).astype(np.uint8)


def _refuse(wrong: NDArray[np.bool_], what: str, name: str, why: str, do: str) -> None:
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
    if len(rows):
        more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
        listed = ", ".join(map(str, rows[:8]))
        raise DataError(f"{what} in the {name} set, images {listed}{more}", why, do)


def _channels_first(images: NDArray[np.uint8], name: str) -> Tensor:
    if images.ndim == 3:
        images = images[:, None]
    first, last = (images.ndim == 4 and images.shape[axis] in (1, 3) for axis in (1, -1))
    if first == last:
        raise DataError(
            f"the {name} images are an array of shape {list(images.shape)}",
            "exactly one of the second and the last axis should be 1 or 3 channels long",
            "Give [n, channels, height, width], [n, height, width, channels] or"
            " [n, height, width].",
        )
    ordered = images if first else images.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(ordered))


def _indices(labels: NDArray[Any], name: str) -> tuple[Tensor, tuple[str, ...]]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        return torch.from_numpy(labels.astype(np.int64)), ()
    if labels.ndim == 1 and labels.dtype.kind == "U":
        names, indices = np.unique(labels, return_inverse=True)
        return torch.from_numpy(indices.astype(np.int64)), tuple(map(str, names))
    raise DataError(
        f"the {name} labels are an array of shape {list(labels.shape)} and type {labels.dtype}",
        "labels are one whole number, or one class name, for each image",
        "Give class indices [n].",
    )
