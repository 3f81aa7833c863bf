"""One row of text: a conversation, a prompt and its completion, or a document."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, final, overload

Message = Mapping[str, Any]
"""One turn: "role", "content", and whatever else a chat template reads ("tool_calls")."""
Form = Literal["messages", "prompt", "text"]


@final
@dataclass(frozen=True, slots=True)
class Row:
    """What a data set says of one example, before any model's template or tokenizer.

    A row has one of three forms: `messages`; `prompt`, with or without a `completion`; `text`.
    Whatever it may hold beside that is optional.

    Args:
        number: its place in the data set, from 0.
        place: where it stands, for messages to people: "train.jsonl:12".
        messages: the turns of a conversation. One that ends in a user's turn is a prompt alone.
        prompt: what stands before the response.
        completion: the response.
        text: a document.
        answer: the reference that a verifier compares with.
        teacher_messages: the turns that the teacher sees before the response, in place of ours.
        teacher_prompt: the prompt that the teacher sees, in place of ours.
        tag: what kind of row it is, for reports and for choosing among teachers.
        group: which rows it belongs to, such as those of one passage: a report draws them as one.
    """

    number: int
    place: str
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    answer: str | None = None
    teacher_messages: tuple[Message, ...] = ()
    teacher_prompt: str | None = None
    tag: str | None = None
    group: str | None = None

    @property
    def form(self) -> Form:
        """Which of the three forms it has."""
        if self.messages:
            return "messages"
        return "prompt" if self.prompt is not None else "text"

    @property
    def has_response(self) -> bool:
        """Whether somebody has written what is to be learned; else it is a prompt alone."""
        if self.messages:
            return self.messages[-1]["role"] == "assistant"
        return self.text is not None or self.completion is not None

    @property
    def has_privileged_prompt(self) -> bool:
        """Whether the teacher sees something else before the response."""
        return self.teacher_prompt is not None or bool(self.teacher_messages)

    def seen_by_teacher(self) -> "Row":
        """The row with the teacher's own prompt before the same (last) response."""
        if not self.has_privileged_prompt:
            return self
        turns: tuple[Message, ...] = self.teacher_messages
        if self.form == "prompt" and not turns:
            return replace(self, prompt=self.teacher_prompt, teacher_prompt=None)
        turns = turns or ({"role": "user", "content": self.teacher_prompt},)
        if self.form == "messages" and self.has_response:
            turns = (*turns, self.messages[-1])
        elif self.completion is not None:
            turns = (*turns, {"role": "assistant", "content": self.completion})
        return Row(self.number, self.place, messages=turns)

    def content(self) -> dict[str, Any]:
        """What it says, without its number and place."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {n: v for n, v in named.items() if v and n not in ("number", "place")}


@final
@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be used: where it stands, and what is wrong with it."""

    place: str
    fault: str

    def __str__(self) -> str:
        return f"{self.place} {self.fault}"


@final
@dataclass(frozen=True)
class Rows(Sequence[Row]):
    """The rows of a data set, in its order.

    Args:
        rows: the usable ones.
        name: what to call them in a message.
        skipped: those that were left out because they are broken, where that was asked for.
    """

    rows: tuple[Row, ...]
    name: str = "data"
    skipped: tuple[Broken, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...

    def __getitem__(self, index: int | slice) -> Row | tuple[Row, ...]:
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of what all rows say, in order; where they lie does not matter."""
        return fingerprint(self.rows)


def fingerprint(rows: Sequence[Row]) -> str:
    """Sha256 of what some rows say, in order; names and places of files do not matter."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row.content(), sort_keys=True, default=str).encode())
        digest.update(b"\n")
    return digest.hexdigest()
