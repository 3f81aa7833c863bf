"""From the name of a source of images to the three sets of a run."""

from collections.abc import Sequence
from dataclasses import replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from preceptor.data.arrays import raw_arrays, read_npz
from preceptor.data.bundled import BUNDLED, read_bundled
from preceptor.data.folders import read_folder
from preceptor.data.groups import grouped, require_columns
from preceptor.data.images import ImageData
from preceptor.data.raw import Holding, RawData, RawSet, Shaping, assembled
from preceptor.data.reasoning import REASONING, read_reasoning
from preceptor.data.stratified import parted
from preceptor.data.tables import read_hub, read_parquet
from preceptor.data.toy import toy_images
from preceptor.errors import DataError

AnySource = str | Path | Sequence[Any]

_DIGITS_TEST = 500
_PRESETS = ("digits", "toy", *BUNDLED, *REASONING)


def load_images(
    source: AnySource,
    *,
    validation: AnySource | None = None,
    test: AnySource | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    validation_share: float = 0.1,
    test_share: float = 0.2,
    limit: int | None = None,
    seed: int = 0,
    class_names: Sequence[str] = (),
    image: str = "image",
    label: str = "label",
    columns: Sequence[str] = (),
    groups: str | None = None,
    memory: int = 4 * 2**30,
) -> ImageData:
    """Images for training, for choices and for the final measurement.

    A source is one of:

    - `digits`: the 1,797 UCI handwritten digits that scikit-learn carries, 8 by 8, gray, 500 of
      them for test. Their 0 to 16 is stretched to 0 to 255, so that full ink is 1.0.
    - `toy`: tiny bars, for tests.
    - a small table that scikit-learn carries, such as `iris`; see `bundled`.
    - a small reasoning task, such as `parity`; see `reasoning`.
    - a folder with one subfolder a class, or with `train` and `test` (and `val`, `unlabelled`)
      above the classes; see `folders`.
    - parquet files: one, several, a pattern, or a folder of them; see `tables`.
    - a `.npz` file, or a pair (images, labels) of numpy arrays or tensors; see `arrays`.
    - `owner/name` or `owner/name:configuration` on the Hugging Face hub.

    Args:
        source: where the images come from.
        validation, test: other sources, all of whose images are that set.
        size: all images are resized to this height and width, their whole area kept; without it
            images of different sizes are refused.
        channels: 1 or 3; without it a mixture of gray and RGB is refused.
        validation_share: the share of train that is held out, stratified, where there is no
            validation set.
        test_share: likewise, where there is no test set.
        limit: keep only so many training images, stratified, all of them labelled.
        seed: decides what is held out; belongs to the data, not to a run.
        class_names: the order of the labels, where the alphabetical one is not a teacher's.
        image, label: the columns of a table.
        columns: what else is kept of each image, by a table's columns or those of `groups`.
        groups: for a folder of images, a file of records with a column `image` of their paths.
        memory: files whose pixels take more bytes than this are decoded each time they are read.

    Raises:
        DataError: the source is missing, broken, or contradicts itself.
    """
    _check_options(size, channels, validation_share, test_share)

    def read(source: AnySource) -> RawData:
        found = _read(source, image, label, columns)
        if groups is None:
            return found
        return grouped(found, Path(str(source)).expanduser(), groups, columns)

    raw = read(source)
    if validation is not None:
        raw = _with(raw, "validation", read(validation))
    if test is not None:
        raw = _with(raw, "test", read(test))
    return assembled(
        require_columns(raw, columns),
        Shaping((size, size) if isinstance(size, int) else size, channels, memory),
        Holding(validation_share, test_share, limit, seed),
        tuple(class_names),
    )


def _read(source: AnySource, image: str, label: str, columns: Sequence[str]) -> RawData:
    if not isinstance(source, str | Path):
        paths = [each for each in source if isinstance(each, str | Path)]
        if len(paths) == len(source):
            return _read_files([Path(path).expanduser() for path in paths], image, label, columns)
        if len(source) == 2:
            return RawData(raw_arrays(source[0], source[1], "train"), None, None, "arrays")
        raise DataError(
            f"a source of {len(source)} parts",
            "it is neither a list of files nor images and labels",
            "Give (images, labels), or the names of .parquet files.",
        )
    if source == "digits":
        return _digits()
    if source == "toy":
        return _toy()
    if source in BUNDLED:
        return read_bundled(str(source))
    if source in REASONING:
        return read_reasoning(str(source))
    path = Path(source).expanduser()
    if has_magic(str(path)) and not path.exists():
        files = sorted(Path(found) for found in glob(str(path)))
        return _read_files(files, image, label, columns, path)
    if path.is_dir():
        tables = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
        return read_parquet(tables, image, label, columns) if tables else read_folder(path)
    if path.suffix == ".npz" and path.is_file():
        return read_npz(path)
    if path.exists() or path.suffix == ".parquet":
        return _read_files([path], image, label, columns)
    if isinstance(source, str) and _like_hub_name(source):
        return read_hub(source, image, label, columns)
    raise _nothing_there(source)


def check_source(source: str) -> None:
    """Raise `DataError` where a source is neither here nor like a hub's name; nothing is read."""
    path = Path(source).expanduser()
    here = source in _PRESETS or path.exists() or (has_magic(source) and bool(glob(str(path))))
    if not here and not _like_hub_name(source):
        raise _nothing_there(source)


def _nothing_there(source: str | Path) -> DataError:
    return DataError(
        f"the data {str(source)!r}",
        "there is no such file or folder",
        f"Check the path; besides paths and hub names there are {', '.join(_PRESETS)}.",
    )


def _read_files(
    paths: Sequence[Path],
    image: str,
    label: str,
    columns: Sequence[str],
    pattern: Path | None = None,
) -> RawData:
    missing = [path for path in paths if not path.is_file()]
    others = [path for path in paths if path.suffix != ".parquet"]
    if not paths or missing:
        raise DataError(
            f"the data {str(missing[0] if missing else pattern or '')!r}",
            "there is no such file",
            "Check the path.",
        )
    if others:
        raise DataError(
            f"the file {others[0]}",
            "images are read from folders, .parquet files and one .npz file",
            "Name the folder of the images, or convert them.",
        )
    return read_parquet(paths, image, label, columns)


def _like_hub_name(source: str) -> bool:
    """Whether it may name a data set: `owner/name`, with nothing that only paths have."""
    owner, slash, name = source.partition("/")
    path_like = owner in ("", ".", "..", "~") or "/" in name or "\\" in source
    return bool(slash and name) and not path_like and Path(source).suffix == ""


def _with(raw: RawData, part: Literal["validation", "test"], other: RawData) -> RawData:
    if getattr(raw, part) is not None:
        raise DataError(
            f"`{part}` names {other.origin}, and {raw.origin} has such a set of its own",
            "a run uses one",
            f"Leave `{part}` out, or name the training files alone.",
        )
    origin = f"{raw.origin}, {part}: {other.origin}"
    return replace(raw, origin=origin, **{part: replace(other.train, name=part)})


def _toy() -> RawData:
    images = toy_images()
    assert isinstance(images.pixels, torch.Tensor)
    return RawData(
        RawSet(images.pixels, images.labels, images.class_names, "train"), None, None, "toy images"
    )


def _digits() -> RawData:
    from sklearn.datasets import load_digits  # late: it takes a second

    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(np.rint(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8))
    targets = torch.from_numpy(labels.astype(np.int64))
    kept, held = parted(targets, _DIGITS_TEST, (0,))
    names = tuple(str(digit) for digit in range(10))
    train = RawSet(pixels[kept], targets[kept], names, "train")
    test = RawSet(pixels[held], targets[held], names, "test")
    return RawData(train, None, test, "UCI handwritten digits, from scikit-learn")


def _check_options(
    size: int | tuple[int, int] | None, channels: int | None, validation: float, test: float
) -> None:
    sides = size if isinstance(size, tuple) else (size,)
    if size is not None and not all(side is not None and side > 0 for side in sides):
        raise DataError(f"size={size}", "it counts pixels", "Give one or more.")
    if channels not in (None, 1, 3):
        raise DataError(
            f"channels={channels}", "images are gray (1) or RGB (3)", "Choose one of them."
        )
    for name, share in (("validation_share", validation), ("test_share", test)):
        if not 0 < share < 1:
            raise DataError(
                f"{name}={share}", "a share is above 0 and below 1", "Choose one, such as 0.1."
            )
