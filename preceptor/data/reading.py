"""Read rows: files of records, plain text, data sets of the hub, anything that can be iterated."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

from preceptor.data.row_parsing import Columns, Fault, parsed
from preceptor.data.rows import Broken, Row, Rows
from preceptor.errors import DataError

Documents = Literal["file", "line", "paragraph"]
AnyRows = str | Path | Iterable[Any]
Placed = Iterator[tuple[str, Any]]

_NAMED = 5
_HUB_PART = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?@[\w.+:%\[\]-]+")
"""A name of the hub with one of its parts, or a slice of one: `owner/name@train[:10%]`."""


@final
@dataclass
class RowStream:
    """Rows that are read when they are iterated, from the beginning each time.

    Args:
        source: one of
            a file of records: `.jsonl` (one a line), `.json` (a list), `.parquet`, `.csv`;
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
        for number, (place, record) in enumerate(self._records()):
            if isinstance(record, Row | Broken):
                yield record
                continue
            try:
                row = parsed(record, self.columns, number, place, prompts_alone=self.prompts_alone)
            except Fault as fault:
                row = Broken(place, str(fault))
            yield row

    def _records(self) -> Placed:
        if not isinstance(self.source, str | Path):
            yield from ((f"row {i}", record) for i, record in enumerate(self.source))
            return
        files = files_of(str(self.source))
        if files is None:
            yield from _hub(str(self.source), self.split, self.streaming)
            return
        for file in files:
            yield from _reader(file, self.documents)(file)


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
        found = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
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
            f"no file there ends in {', '.join(_SUFFIXES)}",
            "Check the spelling, or convert it to JSON lines.",
        )
    return found


def _reader(file: Path, documents: Documents | None) -> Callable[[Path], Placed]:
    if file.suffix in _RECORDS:
        return _RECORDS[file.suffix]
    if file.suffix not in _PLAIN:
        raise DataError(
            f"{file} ends in {file.suffix or 'nothing'}",
            f"rows are read from {', '.join(_SUFFIXES)}",
            "Rename it, or convert it to JSON lines.",
        )
    if documents is None:
        raise DataError(
            f"{file} is plain text",
            "nothing says whether a document is the whole file, a line or a paragraph",
            "Say it: documents: file, line or paragraph.",
        )
    return _DOCUMENTS[documents]


def _json_lines(file: Path) -> Placed:
    for number, line in enumerate(_lines(file), start=1):
        if line.strip():
            place = f"{file.name}:{number}"
            yield place, _json(line, place)


def _json_list(file: Path) -> Placed:
    whole = _json(_text(file), file.name)
    if isinstance(whole, Broken) or not isinstance(whole, list):
        raise DataError(
            f"{file} holds no JSON list",
            whole.fault if isinstance(whole, Broken) else "rows are the items of one",
            "Give a list, or name a file of JSON lines .jsonl.",
        )
    yield from ((f"{file.name}, item {i}", item) for i, item in enumerate(whole, start=1))


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        return Broken(place, f"is not JSON ({error})")


def _parquet(file: Path) -> Placed:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            number = 0
            for part in opened.iter_batches(batch_size=1024):
                for record in part.to_pylist():
                    number += 1
                    yield f"{file.name}, row {number}", record
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file} cannot be read",
            f"it is no whole parquet file ({str(error).splitlines()[0]})",
            "Download or write it again.",
        ) from error


def _csv(file: Path) -> Placed:
    # A cell of a table may be longer than the module's own limit of 131,072 characters.
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 30))
    # Line by line, as the lines stand: what is in quotes keeps its own ends.
    reader = csv.DictReader(_lines(file), strict=True)
    try:
        for number, record in enumerate(reader, start=1):
            place = f"{file.name}, row {number}"
            if None in record or None in record.values():
                columns = len(reader.fieldnames or ())
                yield place, Broken(place, f"has not as many cells as the {columns} columns")
            else:
                yield place, record
    except csv.Error as error:
        raise DataError(
            f"{file.name}:{reader.line_num} cannot be read",
            f"it is no table of comma-separated values ({error})",
            "Write it again, with quotes around cells that hold commas, quotes or line ends.",
        ) from error


def _whole_file(file: Path) -> Placed:
    yield file.name, {"text": _text(file)}


def _each_line(file: Path) -> Placed:
    for number, line in enumerate(_lines(file), start=1):
        if line.strip():
            yield f"{file.name}:{number}", {"text": line.rstrip("\r\n")}


def _each_paragraph(file: Path) -> Placed:
    held: list[str] = []
    begin = 0
    for number, line in enumerate([*_lines(file), ""], start=1):
        if line.strip():
            begin = begin if held else number
            held.append(line)
        elif held:
            yield f"{file.name}:{begin}", {"text": "".join(held).rstrip("\r\n")}
            held = []


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as opened:
            yield from opened
    except UnicodeDecodeError as error:
        raise _other_encoding(file) from error
    except OSError as error:
        raise DataError(
            f"{file} cannot be read", str(error.strerror), "Mend the file or its permissions."
        ) from error


def _text(file: Path) -> str:
    return "".join(_lines(file))


def _other_encoding(file: Path) -> DataError:
    place, why = file.name, "it is no UTF-8 text"
    with file.open("rb") as opened:
        for number, line in enumerate(opened, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                place = f"{file.name}:{number}"
                why += f": {error.reason} {line[error.start]:#04x} at character {error.start + 1}"
                break
    return DataError(f"{place} cannot be read", why, "Convert the file to UTF-8.")


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


_RECORDS: dict[str, Callable[[Path], Placed]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet,
    ".csv": _csv,
}
_PLAIN = (".txt", ".md")
_SUFFIXES = (*_RECORDS, *_PLAIN)
_DOCUMENTS: dict[Documents, Callable[[Path], Placed]] = {
    "file": _whole_file,
    "line": _each_line,
    "paragraph": _each_paragraph,
}
