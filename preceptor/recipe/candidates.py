"""What a ranking's candidates answer to the same prompts: from files, or written when asked for.

Prompts have numbers, their places among all prompts that there are, so that more or fewer of them
may be compared later with the same features.

Dimension key: p prompts, n responses.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from preceptor.data.chat import Rendering
from preceptor.data.rows import Row, fingerprint
from preceptor.data.text import TextSet
from preceptor.errors import DataError
from preceptor.recipe.candidate_texts import bare_row, said_in
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
    alone = {key(row): prompt_alone(bare_row(row)) for row in asked}
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
