"""Render a row with one model's own chat template: ids, and which of them are the response.

The rendered string decides. Where a response begins is where the rendering of what stands before
it ends, so templates need no `{% generation %}` marks; tokens are found by their offsets in the
string. What a template puts between the prompt and the answer's text, and its end-of-turn token
after it, belong to the response; tool outputs and everything else are not scored.

Dimension key: n tokens.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from preceptor.data.rendered import Rendered, Span, sizes_of
from preceptor.data.rows import Message, Row
from preceptor.data.tokenizers import id_count
from preceptor.errors import DataError

Truncate = Literal["refuse", "left", "drop"]
Turns = Literal["all", "last"]


@final
class Rendering:
    """How one model reads rows: its tokenizer, its template, its context.

    With a chat template, `messages` and `prompt` rows are conversations (a prompt is a user's
    turn). Without one, or with `plain`, a prompt and its completion are joined as they are, and
    `messages` rows are refused. Where the template writes the beginning-of-sequence token it alone
    does; otherwise one is put first if the tokenizer itself puts one there. A `text` row is the
    document, every token scored but the first.

    Args:
        tokenizer: a fast tokenizer of transformers.
        max_length: the most tokens that the model may see.
        truncate: what to do with a row that is longer: "refuse" it by name; cut its prompt from
            the "left" (a response that does not fit is refused still); "drop" it, counted.
        system: a system turn for conversations that have none.
        add_eos: end documents, plain completions and last turns that their template leaves open
            with the end-of-sequence token, which is scored.
        plain: join prompt and completion even where there is a template.
        turns: score "all" responses of a conversation, or the "last" alone; where the teacher has a
            prompt of its own, the last alone is scored.
        variables: what the template reads by name, as `enable_thinking`.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        *,
        truncate: Truncate = "refuse",
        system: str | None = None,
        add_eos: bool = True,
        plain: bool = False,
        turns: Turns = "all",
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer, self.max_length, self.truncate = tokenizer, max_length, truncate
        self.system, self.add_eos, self.turns = system, add_eos, turns
        self.variables = dict(variables or {})
        self.chats = not plain and bool(getattr(tokenizer, "chat_template", None))

    @property
    def pad(self) -> int:
        """What stands where nothing is; never read, since masks come from lengths."""
        held = self.tokenizer.pad_token_id
        return 0 if held is None else held

    @cached_property
    def vocabulary(self) -> int:
        """How many ids the tokenizer has: all are below it."""
        return id_count(self.tokenizer)

    @cached_property
    def end(self) -> int | None:
        """The token that ends a response: the template's end of turn, or end of sequence."""
        text, spans = self._markup(Row(0, "a probe", prompt="1", completion="1"))
        last = self._marker(text[spans[-1][0] : spans[-1][1]])
        return self._markers.get(last, self.tokenizer.eos_token_id)

    def render(self, row: Row) -> Rendered:
        """The whole row, however long.

        Raises:
            DataError: it is a conversation and there is no template, or what the template writes
                before a response changes once the response is there.
        """
        text, spans = self._markup(row)
        return self._tokenized(row, text, spans)

    def _tokenized(self, row: Row, text: str, spans: Sequence[Span]) -> Rendered:
        cuts = sorted({edge for span in spans for edge in span})
        ids, offsets = self._encoded(text, cuts)
        begins, ends = offsets[:, 0], offsets[:, 1]
        tokens = tuple(
            (int(np.searchsorted(begins, start)), int(np.searchsorted(begins, stop)))
            for start, stop in spans
        )
        self._check_known(row, text, ids, offsets)
        # Markers are no text: a turn's end costs bits and adds no byte.
        sizes = np.where(np.isin(ids, self._marker_ids), 0, sizes_of(text, ends))
        return Rendered(ids, tokens, sizes, tuple(self._bare(text[s:e]) for s, e in spans))

    def pieces(self, row: Row) -> list[Rendered]:
        """The row within the model's context; nothing where it is dropped.

        A document becomes windows: each begins with the last token of the one before it, so every
        token but the document's first is scored once. Else see `truncate`.

        Raises:
            DataError: the row is too long, and is to be refused.
        """
        whole, most = self.render(row), self.max_length
        if len(whole) <= most:
            return [whole]
        if row.form == "text":
            starts = range(0, len(whole) - 1, most - 1)
            return [whole.cut(start, min(start + most, len(whole))) for start in starts]
        if self.truncate == "drop":
            return []
        if self.truncate == "left" and len(whole.response) < most:
            return [whole.last(most)]
        raise self._too_long(row, whole)

    def prompt(self, row: Row) -> NDArray[np.int32]:
        """What stands before the row's last response, as the model sees it when it is to write."""
        return self.render(row).prompt

    @cached_property
    def _markers(self) -> dict[str, int]:
        """Tokens that are no text, as the end of a turn."""
        held = self.tokenizer.added_tokens_decoder.items()
        return {token.content: i for i, token in held if token.special}

    @cached_property
    def _marker_ids(self) -> NDArray[np.int32]:
        return np.array(list(self._markers.values()), np.int32)

    def _markup(self, row: Row) -> tuple[str, list[Span]]:
        """The row as a string, and the characters of its responses."""
        eos = (self.tokenizer.eos_token or "") if self.add_eos else ""
        if row.form == "text":
            text = self._begin + str(row.text)
            return text + eos, [(len(text) - len(str(row.text)), len(text + eos))]
        if self.chats:
            try:
                return self._conversation(row, self._messages(row))
            except TemplateError as error:
                raise DataError(
                    f"{row.place} is not what the chat template takes",
                    f"it says: {error}",
                    "Change the row's turns, or the template.",
                ) from error
        if row.form == "messages":
            has_template = bool(getattr(self.tokenizer, "chat_template", None))
            raise DataError(
                f"{row.place} is a conversation",
                "`plain` joins a prompt and its completion, and a conversation has turns"
                if has_template
                else "the tokenizer has no chat template that would say how it is written down",
                "Leave `plain` out."
                if has_template
                else "Give the tokenizer a template, or rows of `prompt` and `completion`.",
            )
        prompt = self._begin + str(row.prompt)
        if not row.has_response:
            return prompt, []
        text = prompt + str(row.completion) + eos
        return text, [(len(prompt), len(text))]

    @cached_property
    def _begin(self) -> str:
        first = self.tokenizer("a").input_ids[0]
        begins = first == self.tokenizer.bos_token_id and first is not None
        return self.tokenizer.bos_token if begins else ""

    def _messages(self, row: Row) -> list[Message]:
        messages: list[Message] = list(row.messages)
        if row.form == "prompt":
            messages = [{"role": "user", "content": row.prompt}]
            if row.has_response:
                messages.append({"role": "assistant", "content": row.completion})
        if self.system is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        return messages

    def _conversation(self, row: Row, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        if not row.has_response:
            return self._template(messages, answering=True), []
        full = self._template(messages)
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        spans: list[Span] = []
        every = self.turns == "all" and not row.has_privileged_prompt
        for i in turns if every else turns[-1:]:
            before = self._template(messages[:i], answering=True)
            until = self._template(messages[: i + 1])
            if not (full.startswith(before) and full.startswith(until)):
                raise self._inconsistent(row, i, full, before, until)
            spans.append((len(before), len(before) + self._closed(full[len(before) : len(until)])))
        start, stop = spans[-1]
        if self.add_eos and not self._marker(full[start:stop]):
            eos = self.tokenizer.eos_token or ""
            return full[:stop] + eos, [*spans[:-1], (start, stop + len(eos))]
        return full[:stop], spans

    def _template(self, messages: Sequence[Message], answering: bool = False) -> str:
        return self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=answering, **self.variables
        )

    def _closed(self, written: str) -> int:
        """Where a response ends: after its marker, if only blanks follow that."""
        trimmed = written.rstrip()
        return len(trimmed) if self._marker(trimmed) else len(written)

    def _marker(self, response: str) -> str:
        """The marker that a response ends with, or nothing."""
        if not response.endswith(tuple(self._markers)):
            return ""
        return max((m for m in self._markers if response.endswith(m)), key=len)

    def _bare(self, response: str) -> str:
        """A response without the marker that ends it."""
        return response.removesuffix(self._marker(response))

    def _encoded(
        self, text: str, cuts: Sequence[int]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids and their offsets, no token reaching over a cut."""
        told = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = np.asarray(told["offset_mapping"], np.int64).reshape(-1, 2)
        # Some tokenizers leave a token's own blank out of its offsets: give it back.
        offsets[1:, 0] = np.minimum(offsets[1:, 0], np.maximum.accumulate(offsets[:, 1])[:-1])
        crossing = any(((offsets[:, 0] < c) & (offsets[:, 1] > c)).any() for c in cuts)
        if not crossing:
            return np.asarray(told["input_ids"], np.int32), offsets
        edges = sorted({0, *cuts, len(text)})
        parts = [self._encoded(text[a:b], ()) for a, b in pairwise(edges)]
        return (
            np.concatenate([ids for ids, _ in parts]),
            np.concatenate([o + a for (_, o), a in zip(parts, edges, strict=False)]),
        )

    def _check_known(
        self, row: Row, text: str, ids: NDArray[np.int32], offsets: NDArray[np.int64]
    ) -> None:
        """Refuse a text of which the tokenizer does not know a character."""
        own = self.tokenizer
        unknown = own.unk_token_id
        if unknown is None or unknown in (own.eos_token_id, own.bos_token_id, own.pad_token_id):
            return
        for index in (ids == unknown).nonzero()[0]:
            start, stop = offsets[index]
            if text[start:stop] != own.unk_token:
                raise DataError(
                    f"{row.place} holds {text[start:stop]!r}",
                    "the tokenizer has no token for it, so a student could not learn the text",
                    "Mend the row, or use a tokenizer over bytes.",
                )

    def _too_long(self, row: Row, whole: Rendered) -> DataError:
        response = len(whole.response)
        do = "Raise max_length, or drop such rows (truncate: drop)."
        if response < self.max_length:
            do = "Raise max_length, drop such rows, or cut their prompts (truncate: drop or left)."
        return DataError(
            f"{row.place} has {len(whole)} tokens, {response} of them the response",
            f"the context holds {self.max_length}",
            do,
        )

    def _inconsistent(self, row: Row, turn: int, full: str, before: str, until: str) -> DataError:
        wanted = before if not full.startswith(before) else until
        at = next((i for i, (a, b) in enumerate(zip(full, wanted, strict=False)) if a != b), 0)
        return DataError(
            f"{row.place}: before turn {turn + 1} the template writes"
            f" {wanted[max(0, at - 20) : at + 20]!r}, and {full[max(0, at - 20) : at + 20]!r} once"
            " the whole conversation is there",
            "what the model would see when it answers is not what it would be trained on"
            " (templates that drop earlier thinking do so)",
            "Score the last turn alone (turns: last), set the template's variables"
            " (enable_thinking), or split the conversation into rows.",
        )
