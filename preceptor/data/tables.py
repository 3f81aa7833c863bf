"""Tables of images: parquet files, and data sets of the Hugging Face hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from preceptor.data.encoded import Encoded
from preceptor.data.raw import RawData, RawSet
from preceptor.errors import DataError, nearest

_SPLITS = {"train": "train", "test": "test", "val": "validation", "dev": "validation"}


def read_parquet(
    paths: Sequence[Path], image: str, label: str, columns: Sequence[str] = ()
) -> RawData:
    """The images of parquet files; a name that begins with train, val or test says which set.

    Files that are all of one set are taken for training. The column of images holds encoded
    files, as bytes or as the hub's struct of bytes and path; that of labels whole numbers or class
    names. Names in the hub's metadata are kept, and so are further `columns`.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(paths):
        files.setdefault(_split_of(path.name), []).append(path)
    if len(files) == 1:
        files = {"train": list(next(iter(files.values())))}
    if "train" not in files or "every" in files:
        raise DataError(
            f"the parquet files {', '.join(path.name for path in sorted(paths))}",
            "which of them are for training cannot be told from their names",
            "Let their names begin with train, validation or test.",
        )
    sets = {
        split: _raw(_joined(each), image, label, split, str(each[0]), each[0].parent, told=columns)
        for split, each in files.items()
    }
    origin = str(paths[0]) if len(paths) == 1 else str(sorted(paths)[0].parent)
    return RawData(sets["train"], sets.get("validation"), sets.get("test"), origin)


def read_hub(name: str, image: str, label: str, columns: Sequence[str] = ()) -> RawData:
    """A data set of the Hugging Face hub: `owner/name`, or `owner/name:configuration`.

    Raises:
        DataError: it cannot be had: no network, no such name, no permission.
    """
    import datasets  # late: it takes a second

    path, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(path, configuration or None)
    except Exception as error:  # the hub's client raises a dozen kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"the data {name!r}",
            f"there is no such file or folder here, and the Hugging Face hub did not give it"
            f" ({reason})",
            "Check the spelling and the network, or download it and name its folder.",
        ) from error
    assert isinstance(loaded, datasets.DatasetDict)
    return from_datasets(loaded, name, image, label, columns)


def from_datasets(
    loaded: Any, name: str, image: str, label: str, columns: Sequence[str] = ()
) -> RawData:
    """The sets of a `datasets.DatasetDict`."""
    sets: dict[str, RawSet] = {}
    for split, each in loaded.items():
        kind = _split_of(str(split))
        if kind == "every" or kind in sets:
            raise DataError(
                f"the data {name!r} has the splits {', '.join(map(str, loaded))}",
                "which are for training, validation and test cannot be told",
                "Save the splits you want as train.parquet and test.parquet, and name the folder.",
            )
        table = each.with_format("arrow")[:]
        names = tuple(getattr(each.features.get(label), "names", None) or ())
        sets[kind] = _raw(table, image, label, kind, f"{name} {split}", Path(), names, columns)
    if "train" not in sets:
        raise DataError(
            f"the data {name!r} has no split `train`",
            f"it has {', '.join(map(str, loaded))}",
            "Choose data that can be trained on.",
        )
    return RawData(sets["train"], sets.get("validation"), sets.get("test"), name)


def _split_of(name: str) -> str:
    return next((split for begin, split in _SPLITS.items() if name.startswith(begin)), "every")


def _joined(paths: list[Path]) -> pa.Table:
    try:
        return pa.concat_tables([pq.read_table(path) for path in paths])
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"the parquet file {', '.join(map(str, paths))}",
            f"it cannot be read ({str(error).splitlines()[0]})",
            "Write it again, or name another.",
        ) from error


def _raw(
    table: pa.Table,
    image: str,
    label: str,
    split: str,
    where: str,
    folder: Path,
    class_names: tuple[str, ...] = (),
    told: Sequence[str] = (),
) -> RawSet:
    for option, column in (("image", image), ("label", label)):
        if column not in table.column_names:
            raise DataError(
                f"{where} has no column {column!r}",
                f"it has {', '.join(table.column_names)}",
                f"Set `{option}` to one of them (nearest: {nearest(column, table.column_names)}).",
            )
    images = tuple(
        Encoded(f"{where}, row {row}", content)
        for row, content in enumerate(_contents(table[image], where, folder))
    )
    labels, names = _labels(table[label], where)
    for column in told:
        if column not in table.column_names:
            raise DataError(
                f"{where} has no column {column!r}",
                f"it has {', '.join(table.column_names)}",
                f"Name one of them (nearest: {nearest(column, table.column_names)}).",
            )
    columns = {column: tuple(map(str, table[column].to_pylist())) for column in told}
    return RawSet(images, labels, class_names or names or _names(table, label), split, columns)


def _contents(column: pa.ChunkedArray, where: str, folder: Path) -> list[bytes | Path]:
    contents: list[bytes | Path | None] = []
    for chunk in column.chunks:
        parts = [part.name for part in chunk.type] if pa.types.is_struct(chunk.type) else []
        if {"bytes", "path"} <= set(parts):
            found = dict(zip(parts, chunk.flatten(), strict=True))  # a null row has null parts
            both = (found[part].to_pylist() for part in ("bytes", "path"))
            for given, path in zip(*both, strict=True):
                contents.append(given if given or path is None else folder / path)
        elif pa.types.is_binary(chunk.type) or pa.types.is_large_binary(chunk.type):
            contents += chunk.to_pylist()
        else:
            raise DataError(
                f"the images of {where} are stored as {chunk.type}",
                "they are read as encoded files (PNG, JPEG) in bytes",
                "Store encoded images, or give arrays as .npz.",
            )
    present = [content for content in contents if content is not None]
    if len(present) < len(contents):
        raise DataError(
            f"{where}, row {contents.index(None)}, holds no image",
            "every row needs one",
            "Remove the row.",
        )
    return present


def _labels(column: pa.ChunkedArray, where: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    values = column.to_pylist()
    if all(value is None or isinstance(value, str) for value in values):
        names = tuple(sorted({value for value in values if value is not None}))
        index: dict[str | None, int] = {name: number for number, name in enumerate(names)}
        return torch.tensor([index.get(value, -1) for value in values], dtype=torch.int64), names
    if all(value is None or isinstance(value, int) for value in values):
        bare = [-1 if value is None else int(value) for value in values]
        return torch.tensor(bare, dtype=torch.int64), ()
    raise DataError(
        f"the labels of {where} are stored as {column.type}",
        "a label is a whole number or a class name",
        "Store one label a row.",
    )


def _names(table: pa.Table, label: str) -> tuple[str, ...]:
    """Class names in the hub's metadata, empty where there are none."""
    described = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = described.get("info", {}).get("features", {}).get(label, {})
    names = feature.get("names", ()) if isinstance(feature, dict) else ()
    return tuple(map(str, names))
