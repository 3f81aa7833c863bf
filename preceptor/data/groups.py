"""What is told of each image beside its class: columns by which a report may group test images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from preceptor.data.encoded import Encoded
from preceptor.data.raw import RawData, RawSet
from preceptor.data.reading import RowStream
from preceptor.errors import DataError, nearest

_IMAGE = "image"


def grouped(raw: RawData, source: Path, file: str, names: Sequence[str]) -> RawData:
    """The sets of a folder of images, with columns of a file of records.

    Args:
        raw: as the folder was read.
        source: the folder.
        file: .csv, .jsonl, .json or .parquet, with a column `image` of paths inside the folder.
        names: the other columns that are wanted.

    Raises:
        DataError: a labelled image is not in the file, or a column is not; the source is no folder.
    """
    if not source.is_dir() or not isinstance(raw.train.images, tuple):
        raise DataError(
            f"data.groups: {file}, with images from {raw.origin}",
            "it tells of each image by its path inside a folder of images",
            "Leave it out: tables have columns of their own.",
        )
    told = {
        str(record.get(_IMAGE)): record
        for _, record in RowStream(file).records()
        if isinstance(record, dict)
    }
    sets = {
        part: _of_set(each, told, source, file, names)
        for part in ("train", "validation", "test")
        if isinstance(each := getattr(raw, part), RawSet)
    }
    return replace(raw, **sets)


def _of_set(
    raw: RawSet,
    told: Mapping[str, Mapping[str, Any]],
    source: Path,
    file: str,
    names: Sequence[str],
) -> RawSet:
    columns: dict[str, list[str]] = {name: [] for name in names}
    for image, label in zip(raw.images, raw.labels.tolist(), strict=True):
        assert isinstance(image, Encoded)
        assert isinstance(image.content, Path)
        path = image.content.relative_to(source).as_posix()
        record = told.get(path)
        if record is None and label >= 0:
            raise DataError(
                f"{file} has no row for {path}",
                "every image with a label is of some group",
                f"Add one: its column `{_IMAGE}` holds paths inside {source}.",
            )
        for name in names:
            columns[name].append(_value(record, name, file) if record is not None else "")
    return replace(raw, columns={name: tuple(values) for name, values in columns.items()})


def _value(record: Mapping[str, Any], name: str, file: str) -> str:
    if name not in record:
        raise DataError(
            f"{file} has no column {name!r}",
            f"it has {', '.join(map(str, record))}",
            f"Name one of them (nearest: {nearest(name, list(map(str, record)))}).",
        )
    return str(record[name])


def require_columns(raw: RawData, names: Sequence[str]) -> RawData:
    """The sets, once each has these columns.

    Raises:
        DataError: a set that is measured on has none of them.
    """
    for each in (raw.train, raw.validation, raw.test):
        lacking = [name for name in names if each is not None and name not in each.columns]
        if lacking:
            raise DataError(
                f"data.slices or data.clusters names {lacking[0]!r}",
                f"nothing of {raw.origin} is told by that name",
                "Use a table that has such a column, or a folder with `groups: FILE`.",
            )
    return raw
