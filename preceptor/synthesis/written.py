"""A teacher's answers, kept in a file as they come, and the data set that is made of them.

Every answer is appended, flushed and keyed by what its row says. A run that was killed goes on
where it stopped and asks nothing twice; filters are applied to what is kept, never to what is
asked, so that other filters cost no further call.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

from preceptor.data.chat import Rendering
from preceptor.data.counter import words
from preceptor.data.rows import Row, fingerprint
from preceptor.errors import DataError, PreceptorError, StorageError
from preceptor.files import storage, write_text
from preceptor.synthesis.writers import Writer


class Answer(NamedTuple):
    """What a teacher wrote, and whether it came to an end by itself."""

    text: str
    ended: bool


Ask = Callable[[Iterable[Row]], Iterable[tuple[Row, Answer | PreceptorError]]]
"""Answers rows in any order, as they come; an error stands for a row that has no answer."""
Filter = Callable[[Row, Answer], bool]
"""Whether a row and its answer become data."""


@final
@dataclass(frozen=True)
class Asked:
    """What one call of `Answers.complete` did.

    Args:
        known: rows whose answer was there already.
        new: answers that came.
        failed: rows that could not be answered, each with its reason; they are asked again.
    """

    known: int
    new: int
    failed: Mapping[str, str]


@final
class Answers:
    """The answers of one teacher, in a file of one JSON object a line.

    Args:
        path: the file; made where it is not there.
        teacher: who is asked, and how (model, sampling, prompt): another teacher's answers are
            refused.

    Raises:
        StorageError: the file is another teacher's, or a line in its middle is damaged.
    """

    def __init__(self, path: Path, teacher: str) -> None:
        self.path, self.teacher = path, teacher
        self._known: dict[str, Answer] = {}
        if path.exists():
            self._read()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, row: Row) -> Answer | None:
        """The answer to a row, if there is one."""
        return self._known.get(key(row))

    def complete(self, rows: Iterable[Row], ask: Ask) -> Asked:
        """Ask for what is not there yet; rows that say the same are asked once."""
        known, missing = 0, dict[str, Row]()
        for row in rows:
            if row.form == "text":
                raise DataError(
                    f"{row.place} is a document",
                    "a teacher answers prompts",
                    "Give rows with messages or a prompt.",
                )
            if key(row) in self._known:
                known += 1
            else:
                missing.setdefault(key(row), row)
        new, failed = 0, dict[str, str]()
        if not missing:
            return Asked(known, new, failed)
        with storage(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a", encoding="utf-8")
        with file:
            if file.tell() == 0:
                self._append(file, {"teacher": self.teacher})
            for row, answer in ask(missing.values()):
                if isinstance(answer, PreceptorError):
                    failed[row.place] = str(answer)
                    continue
                said = {"key": key(row), "text": answer.text, "ended": answer.ended}
                self._append(file, said)
                self._known[said["key"]] = answer
                new += 1
        return Asked(known, new, failed)

    def _append(self, file: Any, record: Mapping[str, Any]) -> None:
        with storage(self.path):
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        with storage(self.path):
            whole = self.path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            if len(kept) < len(whole):  # A line that a killed process left half-written.
                os.truncate(self.path, len(kept))
        for number, line in enumerate(kept.splitlines(), start=1):
            try:
                record = json.loads(line)
                if number == 1:
                    self._check_teacher(record["teacher"])
                else:
                    self._known[record["key"]] = Answer(record["text"], record["ended"])
            except (ValueError, KeyError, TypeError) as error:
                raise StorageError(
                    f"{self.path}:{number} does not hold an answer ({type(error).__name__})",
                    "the file was changed or damaged",
                    "Remove that line, or write to another file.",
                ) from error

    def _check_teacher(self, teacher: str) -> None:
        if teacher != self.teacher:
            raise StorageError(
                f"{self.path} holds answers of {teacher}",
                f"now {self.teacher} is asked",
                "Write to another file, or ask the teacher that began this one.",
            )

    def data(
        self, rows: Sequence[Row], path: Path, filters: Mapping[str, Filter] | None = None
    ) -> dict[str, int]:
        """Write the data set of all rows and their answers; gives how many were kept and why not.

        Args:
            rows: those that were asked, or some of them.
            path: a JSONL file, written whole or not at all.
            filters: by name, asked in order; a row is counted under the first that refuses it.

        Returns:
            "kept", "unanswered", "empty" (nothing but blanks), and what each filter refused.
        """
        filters = {"empty": _said_something, **(filters or {})}
        counts = Counter[str](dict.fromkeys(("kept", "unanswered", *filters), 0))
        lines: list[str] = []
        for row in rows:
            answer = self.of(row)
            if answer is None:
                counts["unanswered"] += 1
                continue
            refused = next((n for n, keeps in filters.items() if not keeps(row, answer)), None)
            counts[refused or "kept"] += 1
            if refused is None:
                lines.append(json.dumps(_record(row, answer)))
        write_text(path, "".join(f"{line}\n" for line in lines))
        return dict(counts)


def key(row: Row) -> str:
    """What names a row's answer: its prompt, whatever response the data may hold."""
    return fingerprint([prompt_alone(row)])


def prompt_alone(row: Row) -> Row:
    """The row without its last response."""
    kept: dict[str, Any] = {"completion": None}
    if row.messages and row.has_response:
        kept["messages"] = row.messages[:-1]
    return replace(row, **kept, answer=None, tag=None)


def ended(row: Row, answer: Answer) -> bool:
    """Whether the teacher came to an end by itself; cut answers teach a student to go on."""
    del row
    return answer.ended


def verified(verifier: Callable[[str, str], bool]) -> Filter:
    """Keeps what a verifier finds right; it is given the answer's text and the row's `answer`."""

    def keeps(row: Row, answer: Answer) -> bool:
        if row.answer is None:
            raise DataError(
                f"{row.place} has no reference answer",
                "a verifier compares with one",
                "Give the rows an `answer`, or leave this filter out.",
            )
        return verifier(answer.text, row.answer)

    return keeps


def unique() -> Filter:
    """Keeps the first of rows that come with the same prompt and text."""
    seen: set[tuple[str, str]] = set()

    def keeps(row: Row, answer: Answer) -> bool:
        both = (key(row), answer.text)
        new = both not in seen
        seen.add(both)
        return new

    return keeps


def _record(row: Row, answer: Answer) -> dict[str, Any]:
    asked = prompt_alone(row)
    if asked.messages:
        turn = {"role": "assistant", "content": answer.text}
        said: dict[str, Any] = {"messages": [*map(dict, asked.messages), turn]}
    else:
        said = {"prompt": asked.prompt, "completion": answer.text}
    kept = {"answer": row.answer, "tag": row.tag}
    kept |= {"teacher_prompt": row.teacher_prompt, "teacher_messages": row.teacher_messages}
    return said | {name: value for name, value in kept.items() if value}


def _said_something(row: Row, answer: Answer) -> bool:
    del row
    return bool(answer.text.strip())


def spoken_by(
    writer: Writer, rendering: Rendering, *, seed: int = 0
) -> Callable[[Sequence[Row]], Sequence[Answer]]:
    """What answers rows with a writer of token ids: a live teacher, as it reads them itself.

    A row's answer is drawn from the seed and what the row says, whatever was asked before it.
    """

    def write(rows: Sequence[Row]) -> Sequence[Answer]:
        prompts = [rendering.prompt(prompt_alone(row)) for row in rows]
        seeds = [words(seed, int(key(row)[:15], 16)).item() for row in rows]
        found = writer(prompts, seeds)
        texts = [ids[: len(ids) - bool(e)] for ids, e in zip(found.ids, found.ended, strict=True)]
        decoded = rendering.tokenizer.batch_decode(
            [ids.tolist() for ids in texts], skip_special_tokens=True
        )
        return [Answer(t, bool(e)) for t, e in zip(decoded, found.ended, strict=True)]

    return write


def answered_by(write: Callable[[Sequence[Row]], Sequence[Answer]], batch: int = 16) -> Ask:
    """An `Ask` of something that answers so many rows at once, in order."""

    def ask(rows: Iterable[Row]) -> Iterator[tuple[Row, Answer]]:
        waiting: list[Row] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == batch:
                yield from zip(waiting, write(waiting), strict=True)
                waiting = []
        if waiting:
            yield from zip(waiting, write(waiting), strict=True)

    return ask
