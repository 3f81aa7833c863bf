"""Read rows: files of records, plain text, data sets of the hub, anything that can be iterated."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

from preceptor.data.formats import SUFFIXES, Documents, Placed, reader_of
from preceptor.data.row_parsing import Columns, Fault, parsed
from preceptor.data.rows import Broken, Row, Rows
from preceptor.errors import DataError

AnyRows = str | Path | Iterable[Any]

_NAMED = 5
_HUB_PART = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?@[\w.+:%\[\]-]+")
"""A name of the hub with one of its parts, or a slice of one: `owner/name@train[:10%]`."""


@final
@dataclass
class RowStream:
    """Rows that are read when they are iterated, from the beginning each time.

    Args:
        source: one of
            a file of records: `.jsonl` (one a line), `.json` (a list), `.parquet`, `.csv`, `.tsv`;
            a file of plain text, `.txt` or `.md` (then `documents` must say what one is);
            a folder of such files, or a pattern of names (`data/*.jsonl`);
            `owner/name`, `owner/name:configuration` or `owner/name:configuration@part` on the
            Hugging Face hub;
            records or rows that can be iterated.
        columns: which columns hold what.
        documents: plain text has one document a "file", a "line" (empty ones are none), or a
            "paragraph" (between empty lines).
        broken: "refuse" rows that cannot be used, or "skip" them; `skipped` lists them then.
        prompts_alone: rows need no response.
        split: which part of a data set of the hub, where its name says none.
        streaming: take the hub's rows as they come, without a copy on the disk.
        limit: read so many usable rows at most.
    """

    source: AnyRows
    columns: Columns = field(default_factory=Columns)
    documents: Documents | None = None
    broken: Literal["refuse", "skip"] = "refuse"
    prompts_alone: bool = False
    split: str = "train"
    streaming: bool = False
    limit: int | None = None
    skipped: tuple[Broken, ...] = field(default=(), init=False)

    @property
    def name(self) -> str:
        """What to call the data in a message."""
        return str(self.source) if isinstance(self.source, str | Path) else "the rows given"

    def __iter__(self) -> Iterator[Row]:
        """The usable rows, numbered from 0.

        Raises:
            DataError: a row is broken, where that is not to be skipped; nothing can be read.
        """
        self.skipped = ()
        return islice(self._usable(), self.limit)

    def _usable(self) -> Iterator[Row]:
        number = 0
        for row in self.parsed():
            if isinstance(row, Row):
                yield _numbered(row, number)
                number += 1
            elif self.broken == "refuse":
                raise refused([row], self.name)
            else:
                self.skipped = (*self.skipped, row)

    def parsed(self) -> Iterator[Row | Broken]:
        """Every row of the source, usable or not."""
        for number, (place, record) in enumerate(self.records()):
            if isinstance(record, Row | Broken):
                yield record
                continue
            try:
                row = parsed(record, self.columns, number, place, prompts_alone=self.prompts_alone)
            except Fault as fault:
                row = Broken(place, str(fault))
            yield row

    def records(self) -> Placed:
        """Every record as it stands in the source, with its place."""
        if not isinstance(self.source, str | Path):
            yield from ((f"row {i}", record) for i, record in enumerate(self.source))
            return
        files = files_of(str(self.source))
        if files is None:
            yield from _hub(str(self.source), self.split, self.streaming)
            return
        for file in files:
            yield from reader_of(file, self.documents)(file)


def read_rows(
    source: AnyRows,
    *,
    columns: Columns | None = None,
    documents: Documents | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
    prompts_alone: bool = False,
    split: str = "train",
    limit: int | None = None,
) -> Rows:
    """All rows of a source; see `RowStream` for what it may be and what the arguments say.

    Raises:
        DataError: rows are broken (the first few are named), there are none, or they cannot be
            read.
    """
    stream = RowStream(
        source, columns or Columns(), documents, broken, prompts_alone, split, limit=limit
    )
    rows: list[Row] = []
    faults: list[Broken] = []
    for row in stream.parsed():
        if isinstance(row, Broken):
            faults.append(row)
        else:
            rows.append(_numbered(row, len(rows)))
        if len(rows) == limit:
            break
    if faults and broken == "refuse":
        raise refused(faults, stream.name)
    if not rows:
        raise DataError(
            f"{stream.name} holds no usable row",
            f"{len(faults)} are broken, the first {faults[0]}" if faults else "it is empty",
            "Give rows to learn from.",
        )
    return Rows(tuple(rows), stream.name, tuple(faults))


def refused(faults: Sequence[Broken], name: str) -> DataError:
    """The refusal that names the first few broken rows."""
    told = "; ".join(map(str, faults[:_NAMED]))
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    return DataError(
        f"{len(faults)} broken row{'s' * (len(faults) > 1)} in {name}",
        f"{told}{more}",
        "Mend them, name the columns that hold what is meant, or skip them (broken: skip).",
    )


def _numbered(row: Row, number: int) -> Row:
    return row if row.number == number else replace(row, number=number)


def files_of(source: str) -> list[Path] | None:
    """The files that a name stands for; None where it can only be a name on the hub.

    Raises:
        DataError: there are none.
    """
    path = Path(source)
    if _HUB_PART.fullmatch(source) and not path.exists():
        return None
    if has_magic(source) and not path.exists():
        found = sorted(Path(p) for p in glob(source, recursive=True) if Path(p).is_file())
    elif path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    elif path.is_file():
        return [path]
    elif source.count("/") == 1 and not path.suffix and not source.startswith((".", "/", "~")):
        return None
    else:
        raise DataError(
            f"the data {source!r}",
            "there is no such file or folder",
            "Check the spelling, and the folder that the command is started in.",
        )
    if not found:
        raise DataError(
            f"the data {source!r}",
            f"no file there ends in {', '.join(SUFFIXES)}",
            "Check the spelling, or convert it to JSON lines.",
        )
    return found


def _hub(name: str, split: str, streaming: bool) -> Placed:
    import datasets  # late: it takes a second

    name, _, part = name.partition("@")
    split = part or split
    path, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(
            path, configuration or None, split=split, streaming=streaming
        )
    except Exception as error:  # the hub's client raises a dozen kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"the data {name!r}, part {split!r}",
            f"there is no such file or folder here, and the Hugging Face hub did not give it"
            f" ({reason})",
            "Check the spelling and the network, or download it and name its file.",
        ) from error
    yield from ((f"{name}, {split} row {i}", record) for i, record in enumerate(loaded, start=1))
