"""One file's records or documents, each with the place where it stands."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from preceptor.data.rows import Broken
from preceptor.errors import DataError

Documents = Literal["file", "line", "paragraph"]
Placed = Iterator[tuple[str, Any]]
"""Where each record stands, and the record, or why there is none."""


def reader_of(file: Path, documents: Documents | None) -> Callable[[Path], Placed]:
    """What reads a file of this suffix.

    Raises:
        DataError: none does, or plain text of which nothing says what a document is.
    """
    if file.suffix in _RECORDS:
        return _RECORDS[file.suffix]
    if file.suffix not in _PLAIN:
        raise DataError(
            f"{file} ends in {file.suffix or 'nothing'}",
            f"rows are read from {', '.join(SUFFIXES)}",
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
    separator = _separator(file)
    called = {",": "comma", ";": "semicolon", "\t": "tab"}[separator]
    # Line by line, as the lines stand: what is in quotes keeps its own ends.
    reader = csv.DictReader(_lines(file), strict=True, delimiter=separator)
    try:
        for number, record in enumerate(reader, start=1):
            place = f"{file.name}, row {number}"
            if None in record or None in record.values():
                columns = len(reader.fieldnames or ())
                fault = f"has not as many cells as the {columns} columns ({called}-separated)"
                yield place, Broken(place, fault)
            else:
                yield place, record
    except csv.Error as error:
        raise DataError(
            f"{file.name}:{reader.line_num} cannot be read",
            f"it is no table of {called}-separated values ({error})",
            f"Write it again, with quotes around cells that hold {called}s, quotes or line ends.",
        ) from error


def _separator(file: Path) -> str:
    """Tabs of .tsv; of .csv commas, but semicolons or tabs where its header has these alone.

    Raises:
        DataError: the header has semicolons and tabs, and no comma.
    """
    if file.suffix == ".tsv":
        return "\t"
    header = next(_lines(file), "")
    found = [each for each in (";", "\t") if each in header and "," not in header]
    if len(found) > 1:
        raise DataError(
            f"the header of {file} has semicolons and tabs, and no comma",
            "which of them stand between the columns cannot be told",
            "Write it with commas, or with tabs as .tsv.",
        )
    return found[0] if found else ","


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


_RECORDS: dict[str, Callable[[Path], Placed]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
}
_PLAIN = (".txt", ".md")
SUFFIXES = (*_RECORDS, *_PLAIN)
"""Of the files that are read."""

_DOCUMENTS: dict[Documents, Callable[[Path], Placed]] = {
    "file": _whole_file,
    "line": _each_line,
    "paragraph": _each_paragraph,
}
