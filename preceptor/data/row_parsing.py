"""From a record of a file to a `Row`, or to a sentence that says why it is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, final

from preceptor.data.rows import Message, Row
from preceptor.errors import DataError

Record = Mapping[str, Any]


class Fault(Exception):
    """What is wrong with a record, in words."""


@final
@dataclass(frozen=True)
class Columns:
    """Which columns of the data hold what.

    Each is a column's name, or a pattern with names in braces: `prompt="{instruction} {input}"`,
    `completion="{instances[0][output]}"`; blanks around what a pattern gives are removed. A column
    that is named here must be in every row. One that is not is looked for under the field's own
    name, and may be missing.

    Args:
        messages: lists of turns, each with "role" and "content".
        prompt: what stands before the response: a string, or a list of turns.
        completion: the response: a string, or a list of turns.
        text: documents.
        answer: references for verifiers; strings or numbers.
        teacher_messages: turns that the teacher sees before the response, in place of ours.
        teacher_prompt: prompts that the teacher sees, in place of ours.
        tag: kinds of rows.
        group: what rows belong together, such as questions about one passage.
    """

    messages: str | None = None
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    answer: str | None = None
    teacher_messages: str | None = None
    teacher_prompt: str | None = None
    tag: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        named = [form for form in ("messages", "prompt", "text") if getattr(self, form)]
        if len(named) > 1 or (self.completion and not self.prompt):
            raise DataError(
                f"columns name {', '.join(named) or 'a completion without a prompt'}",
                "a row is a conversation, a prompt with its completion, or a document",
                "Name the columns of one of the three.",
            )

    def of(self, record: Record) -> dict[str, Any]:
        """The fields that a record holds, under their own names; raises `Fault`."""
        found = {f.name: self._field(f.name, record) for f in fields(self)}
        form = next((n for n in ("messages", "prompt", "text") if getattr(self, n)), None)
        form = form or next((n for n in ("messages", "prompt", "text") if found[n]), None)
        if form is None:
            empty = [n for n in ("messages", "prompt", "text") if found[n] is not None]
            if empty:
                raise Fault(f"its {empty[0]} is empty")
            raise Fault(f"has no messages, prompt or text; its columns are {', '.join(record)}")
        for other in {"messages", "prompt", "text"} - {form}:
            found[other] = None
        if form != "prompt":
            found["completion"] = None
        return found

    def called(self, name: str) -> str:
        """A field's name, with its column where that is another."""
        column = getattr(self, name)
        return name if column in (None, name) else f"{name} ({column})"

    def _field(self, name: str, record: Record) -> Any:
        column = getattr(self, name)
        if column is None:
            return record.get(name)
        if "{" not in column:
            if column not in record:
                raise Fault(f"has no {column!r}; its columns are {', '.join(record)}")
            if record[column] is None:
                raise Fault(f"has nothing (null) in its {column!r}")
            return record[column]
        try:
            return column.format_map(record).strip()
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise Fault(f"does not fill the pattern {column!r} ({error})") from error


def parsed(
    record: Any, columns: Columns, number: int, place: str, *, prompts_alone: bool = False
) -> Row:
    """The row that a record is.

    Args:
        record: what was read.
        columns: where in it what stands.
        number: the row's number.
        place: where it stands, for messages.
        prompts_alone: a row without a response is one too.

    Raises:
        Fault: it is none.
    """
    if not isinstance(record, Mapping):
        raise Fault(f"is {_kind(record)}, not an object with named columns")
    found = columns.of(record)
    _join_turns(found)
    row = Row(
        number,
        place,
        messages=_opened(_turns(found["messages"], "messages")),
        prompt=_string(found["prompt"], columns.called("prompt")),
        completion=_string(found["completion"], columns.called("completion")),
        text=_string(found["text"], columns.called("text")),
        answer=_label(found["answer"], "answer"),
        teacher_messages=_turns(found["teacher_messages"], "teacher_messages"),
        teacher_prompt=_string(found["teacher_prompt"], columns.called("teacher_prompt")),
        tag=_label(found["tag"], "tag"),
        group=_label(found["group"], "group"),
    )
    if not row.has_response and not prompts_alone:
        raise Fault(_unanswered(row))
    if row.has_privileged_prompt and row.text is not None:
        raise Fault("is a document with a prompt for the teacher: a document has no prompt")
    return row


def _join_turns(found: dict[str, Any]) -> None:
    """A prompt that is a list of turns makes the row a conversation."""
    if isinstance(found["prompt"], str) or not isinstance(found["prompt"], Sequence):
        return
    completion = found["completion"]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    found["messages"] = [*found["prompt"], *(completion or [])]
    found["prompt"] = found["completion"] = None


def _turns(value: Any, name: str) -> tuple[Message, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise Fault(f"its {name} is {_kind(value)}, not a list of turns")
    return tuple(_turn(each, i + 1, name) for i, each in enumerate(value))


def _opened(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns, the first of which nobody's answer is."""
    if turns and turns[0]["role"] == "assistant":
        raise Fault("begins with an assistant's turn: there is no prompt that it answers")
    return turns


def _turn(turn: Any, number: int, name: str) -> Message:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        raise Fault(f"turn {number} of its {name} has no role")
    kept = {key: value for key, value in turn.items() if value is not None}
    content, role = kept.get("content"), kept["role"]
    if content is None and kept.get("tool_calls"):
        return kept
    if not isinstance(content, str):
        raise Fault(f"turn {number} ({role}) has {_kind(content)} as content, not a string")
    if role == "assistant" and not content.strip() and not kept.get("tool_calls"):
        raise Fault(f"turn {number} (assistant) is empty: there is nothing to learn from it")
    _encodable(content, f"turn {number}")
    return kept


def _unanswered(row: Row) -> str:
    if row.messages and not any(m["role"] == "assistant" for m in row.messages):
        return "has no assistant turn: there is nothing to learn from it"
    if row.messages:
        return f"ends in a turn of {row.messages[-1]['role']!r}, which nobody answers"
    return "has a prompt and no completion"


def _string(value: Any, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Fault(f"its {name} is {_kind(value)}, not a string")
    if not value.strip():
        raise Fault(f"its {name} is empty")
    _encodable(value, f"its {name}")
    return value


def _label(value: Any, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault(f"its {name} is {_kind(value)}, not a string or a number")
    return str(value)


def _encodable(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Fault(f"{where} holds half a character (a lone surrogate)") from error


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    if value is None:
        return "nothing"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    return names.get(type(value), f"a {type(value).__name__}")
