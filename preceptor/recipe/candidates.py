"""What a ranking's candidates answer to the same prompts: from files, or written when asked for.

Prompts have numbers, their places among all prompts that there are, so that more or fewer of them
may be compared later with the same features.

Dimension key: p prompts, n responses.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from preceptor.data.chat import Rendering
from preceptor.data.reading import read_rows
from preceptor.data.row_parsing import Columns
from preceptor.data.rows import Broken, Row, fingerprint
from preceptor.data.text import TextSet
from preceptor.errors import DataError, NeedsError
from preceptor.recipe.ranking import WrittenTexts
from preceptor.selection.white_space import stripped, white_space
from preceptor.synthesis.written import Answer, Answers, Ask, Asked, key, prompt_alone

Asking = Callable[[int], Ask]
"""Gives whoever answers prompts the first, second ... time."""


class Candidate(ABC):
    """Whoever answers prompts with text."""

    identity: str
    """What names its text: the same where it would say the same."""

    @abstractmethod
    def rows(self, prompts: Sequence[int]) -> list[Row]:
        """Its responses, each numbered as its prompt is."""

    @abstractmethod
    def answers(self) -> Iterable[str]:
        """The texts of those that are there."""

    def cut(self) -> float:
        """The share of its responses that did not come to an end by themselves."""
        return 0.0


@final
class FromFile(Candidate):
    """A candidate whose text is there."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[int, list[Row]] = {}
        for row in rows:
            self._rows.setdefault(row.number, []).append(row)
        self.identity = fingerprint([row for each in self._rows.values() for row in each])

    def rows(self, prompts: Sequence[int]) -> list[Row]:
        """In the order of the file."""
        return [row for number in prompts for row in self._rows[number]]

    def answers(self) -> Iterable[str]:
        """All of them."""
        return (said_in(row) for each in self._rows.values() for row in each)


@final
class Written(Candidate):
    """A teacher at one temperature, which writes when it is asked; what it wrote is kept.

    Args:
        name: the candidate's.
        folder: where its answers are kept as they come.
        pool: all prompts.
        identity: what names teacher, sampling and seed.
        asking: gives whoever writes the first, second ... response to a prompt.
        responses: to each prompt.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        pool: Sequence[Row],
        identity: str,
        asking: Asking,
        responses: int,
    ) -> None:
        self._name, self._pool, self._asking = name, pool, asking
        self.identity = f"{identity}, {responses} responses"
        self._answers = [
            Answers(folder / f"answers-{sample}.jsonl", f"{identity}, sample {sample}")
            for sample in range(responses)
        ]

    def rows(self, prompts: Sequence[int]) -> list[Row]:
        """Asks for what is not there; the first responses first.

        Raises:
            DataError: a prompt could not be answered; what came is kept.
        """
        asked = [self._pool[number] for number in prompts]
        found: list[Row] = []
        for sample, held in enumerate(self._answers):
            if any(held.of(row) is None for row in asked):
                self._require_all(held.complete(asked, self._asking(sample)), len(asked))
            found += [_answered(row, answer) for row in asked if (answer := held.of(row))]
        return found

    def _require_all(self, done: Asked, count: int) -> None:
        if done.failed:
            place, why = next(iter(done.failed.items()))
            raise DataError(
                f"{self._name} did not answer {len(done.failed)} of {count} prompts, {place} for "
                f"one ({why})",
                "candidates are compared on prompts that all of them answer",
                "Call again: what came is kept, and the rest is asked anew. Or leave out of the "
                "data what it will not answer.",
            )

    def answers(self) -> Iterable[str]:
        """All that it has written."""
        return (answer.text for answer in self._there())

    def cut(self) -> float:
        """Of all that it has written."""
        ended = [answer.ended for answer in self._there()]
        return ended.count(False) / max(1, len(ended))

    def _there(self) -> Iterator[Answer]:
        every = (held.of(row) for held in self._answers for row in self._pool)
        return (answer for answer in every if answer is not None)


def _answered(row: Row, answer: Answer) -> Row:
    if not row.messages:
        return replace(row, completion=answer.text)
    turn = {"role": "assistant", "content": answer.text}
    return replace(row, messages=(*row.messages, turn))


@final
@dataclass(frozen=True)
class Prompted:
    """The prompts of a ranking, and what files hold of answers to them.

    Args:
        pool: prompts alone, each numbered by its place.
        files: candidates whose text is there, by name.
        left_out: prompts whose answers are too long for the student, with all whose they are.
    """

    pool: tuple[Row, ...]
    files: Mapping[str, FromFile]
    left_out: Mapping[int, tuple[str, ...]]

    def usable(self) -> list[int]:
        """The numbers of the prompts that all candidates may be compared on."""
        return [row.number for row in self.pool if row.number not in self.left_out]


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
            bare = [_bare(row) for row in read]
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


def prompted(
    texts: Mapping[str, Mapping[str, Sequence[Row]]],
    own: Sequence[Row],
    rendering: Rendering,
    responses: int,
) -> Prompted:
    """The prompts that all are asked: those of the files, or `own` where there are none.

    Args:
        texts: what `read_texts` gave.
        own: the data's rows.
        rendering: how the student reads them.
        responses: to each prompt at most.

    Raises:
        DataError: the data are documents; a text is too long, where that is refused.
    """
    first = next(iter(texts.values()), None)
    asked = list(own) if first is None else [rows[0] for rows in first.values()]
    for row in asked:
        if row.form == "text":
            raise DataError(
                f"{row.place} is a document",
                "candidates answer prompts",
                "Give rows with a prompt and a response, or with turns.",
            )
    alone = {key(row): prompt_alone(_bare(row)) for row in asked}
    pool = tuple(replace(row, number=number) for number, row in enumerate(alone.values()))
    numbers = {key(row): row.number for row in pool}
    files: dict[str, FromFile] = {}
    left_out: dict[int, tuple[str, ...]] = {}
    for name, by_prompt in texts.items():
        rows = [
            replace(row, number=numbers[which])
            for which, each in by_prompt.items()
            for row in each[:responses]
        ]
        files[name] = FromFile(rows)
        read = TextSet(rows, rendering, name=name)
        kept = {read.row(index).place for index in range(len(read))}
        for number in sorted({row.number for row in rows if row.place not in kept}):
            left_out[number] = (*left_out.get(number, ()), name)
    return Prompted(pool, files, left_out)


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


def _bare(row: Row) -> Row:
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
