"""What files hold of candidates' answers, of the prompts that all of them answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from preceptor.data.reading import read_rows
from preceptor.data.row_parsing import Columns
from preceptor.data.rows import Broken, Row
from preceptor.errors import DataError, NeedsError
from preceptor.recipe.ranking import WrittenTexts
from preceptor.selection.white_space import stripped, white_space
from preceptor.synthesis.written import key


@final
@dataclass(frozen=True)
class Texts:
    """What files hold.

    Args:
        rows: by candidate the rows of each prompt, under the prompt's key; all have the same keys.
        cautions: what was left out, in sentences.
        notes: what was changed because the recipe says so, in sentences.
    """

    rows: Mapping[str, Mapping[str, Sequence[Row]]] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def white_space(self) -> tuple[str, ...]:
        """Cautions about answers with white space that others' do not have."""
        texts = {
            name: [said_in(row) for each in rows.values() for row in each]
            for name, rows in self.rows.items()
        }
        return white_space(texts, self.rows) if texts else ()

    def beyond(self, responses: int) -> tuple[str, ...]:
        """Cautions about candidates with more responses to a prompt than are read."""
        told: list[str] = []
        for name, rows in self.rows.items():
            counts = [len(each) for each in rows.values()]
            if left := sum(max(0, count - responses) for count in counts):
                told.append(
                    f"{name} has {left:,} of {sum(counts):,} responses left out: the first "
                    f"{responses} to a prompt are read. Say responses: {max(counts)} for all."
                )
        return tuple(told)

    def same(self) -> tuple[str, ...]:
        """Cautions about candidates that are one, but for their name."""
        first: dict[frozenset[tuple[str, tuple[str, ...]]], str] = {}
        told: list[str] = []
        for name, rows in self.rows.items():
            said = frozenset((at, tuple(map(said_in, each))) for at, each in rows.items())
            if (other := first.setdefault(said, name)) != name:
                told.append(f"{name} has the answers of {other}, word for word.")
        return tuple(told)


def read_texts(said: Sequence[WrittenTexts]) -> Texts:
    """What files hold, of the prompts that all candidates answer.

    Raises:
        DataError: a column is not there, a row is broken where that is not to be skipped.
        NeedsError: candidates answer other prompts, beyond those whose answers were skipped.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    skipped: dict[str, tuple[Broken, ...]] = {}
    notes: list[str] = []
    for file in said:
        for name, column in file.responses.items():
            rows = found[name] = {}
            columns = Columns(None, file.prompt, column)
            try:
                read = read_rows(file.source, columns=columns, broken=file.broken)
            except DataError as error:
                raise DataError(f"{name}: {error.seen}", error.why, error.do) from error
            skipped[name] = read.skipped
            bare = [bare_row(row) for row in read]
            if file.strip:
                mended = [_stripped(row) for row in bare]
                changed = sum(a != b for a, b in zip(bare, mended, strict=True))
                notes.append(_taken_off(name, changed, len(bare)))
                bare = mended
            for row in bare:
                rows.setdefault(key(row), []).append(row)
    _require_same_prompts(found, skipped)
    every = list(dict.fromkeys(which for rows in found.values() for which in rows))
    shared = [which for which in every if all(which in rows for rows in found.values())]
    cautions = [
        f"{name} has {len(faults)} broken answer{'s' * (len(faults) > 1)}, skipped; the first: "
        f"{faults[0]}."
        for name, faults in skipped.items()
        if faults
    ]
    if out := len(every) - len(shared):
        cautions.append(
            f"{out} of {len(every)} prompts {'is' if out == 1 else 'are'} left out for all, "
            "because an answer was skipped."
        )
    kept = {name: {which: rows[which] for which in shared} for name, rows in found.items()}
    return Texts(kept, tuple(cautions), tuple(notes))


def said_in(row: Row) -> str:
    """The response of a row; empty where there is none."""
    if row.messages:
        content = row.messages[-1].get("content")
        return content if isinstance(content, str) else ""
    return row.completion or ""


def _stripped(row: Row) -> Row:
    """The row with outer white space taken off its response, and one kind of line ends in it."""
    if not row.messages:
        return replace(row, completion=stripped(said_in(row)))
    last = {**row.messages[-1], "content": stripped(said_in(row))}
    return replace(row, messages=(*row.messages[:-1], last))


def _taken_off(name: str, changed: int, of: int) -> str:
    return (
        f"{name}: outer white space taken off, line ends made one kind (strip); {changed:,} of "
        f"{of:,} answers changed."
    )


def bare_row(row: Row) -> Row:
    """A prompt and its response, and nothing that a data set may hold beside them."""
    prompt = None if row.prompt is None else row.prompt.strip()
    said = row.messages, prompt, row.completion, row.text
    return Row(row.number, row.place, *said)


def _require_same_prompts(
    texts: Mapping[str, Mapping[str, Sequence[Row]]], skipped: Mapping[str, Sequence[Broken]]
) -> None:
    """Raise where one candidate lacks more prompts of another than it had answers skipped."""
    (first, whole), *others = texts.items() if texts else [("", {})]
    for name, rows in others:
        unanswered, beyond = set(whole) - set(rows), set(rows) - set(whole)
        if len(unanswered) <= len(skipped[name]) and len(beyond) <= len(skipped[first]):
            continue
        shared = len(set(whole) & set(rows))
        place = min({**whole, **rows}[each][0].place for each in unanswered | beyond)
        raise NeedsError(
            f"{first} answers {len(whole)} prompts and {name} {len(rows)}, of them {shared} both",
            f"{place} has an answer of one side only, and easier prompts would look like a better "
            "teacher",
            "Leave out of all files what one of them does not answer.",
        )
