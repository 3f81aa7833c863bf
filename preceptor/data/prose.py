"""English prose without a download: the help pages that CPython carries; articles of a folder."""

import re
from pathlib import Path

from preceptor.data.rows import Row, Rows
from preceptor.errors import DataError

_HEADING = re.compile(r"^ = [^=].*[^=] = *$")


def python_topics() -> Rows:
    """The pages of `pydoc_data.topics`: what Python's `help("LISTS")` prints, one document a topic.

    About 0.7 MB of English with some code, in every CPython; the text differs a little between
    versions.
    """
    from pydoc_data.topics import topics

    rows = (
        Row(i, f"topic {name!r}", text=text, tag="topic")
        for i, (name, text) in enumerate(sorted(topics.items()))
    )
    return Rows(tuple(rows), "pydoc_data.topics")


def articles(path: str | Path) -> Rows:
    """The articles of a text in WikiText's form, one document each.

    An article begins with a line ` = Title = `; sections have more signs. Tokens such as `@-@` stay
    as they are.

    Args:
        path: a file, or a folder whose `.txt` files are read in the order of their names.

    Raises:
        DataError: there is no text there, or it has no such headings.
    """
    origin = Path(path)
    files = sorted(origin.glob("*.txt")) if origin.is_dir() else [origin]
    rows: list[Row] = []
    for file in files:
        if not file.is_file():
            continue
        for line, text in _articles(file.read_text(encoding="utf-8")):
            rows.append(Row(len(rows), f"{file.name}:{line}", text=text, tag="article"))
    if not rows:
        raise DataError(
            f"no article in {origin}",
            "an article begins with a line ' = Title = '",
            "Name WikiText files, or read other text with `read_rows` and `documents`.",
        )
    return Rows(tuple(rows), str(origin))


def _articles(text: str) -> list[tuple[int, str]]:
    """Each article, and the line that it begins on."""
    lines = text.splitlines(keepends=True)
    blank = ["", *(line.strip() for line in lines), ""]
    # A title stands between empty lines; a line of a table may look like one and does not.
    begins = [
        i
        for i, line in enumerate(lines)
        if _HEADING.match(line.rstrip("\n")) and not blank[i] and not blank[i + 2]
    ]
    ends = [*begins[1:], len(lines)] if begins else []
    return [(b + 1, "".join(lines[b:e]).strip()) for b, e in zip(begins, ends, strict=True)]
