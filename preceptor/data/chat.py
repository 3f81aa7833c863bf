"""Render a row with one model's own chat template: ids, and which of them are the response.

The rendered string decides. Where a response begins is where the rendering of what stands before
it ends, so templates need no `{% generation %}` marks; tokens are found by their offsets in the
string. What a template puts between the prompt and the answer's text, and its end-of-turn token
after it, belong to the response; tool outputs and everything else are not scored.

Dimension key: n tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from preceptor.data.rows import Message, Row
from preceptor.errors import DataError

Truncate = Literal["refuse", "left", "drop"]
Turns = Literal["all", "last"]
Span = tuple[int, int]


@final
@dataclass(frozen=True)
class Rendered:
    """One row as a model reads it.

    Args:
        ids: token ids [n].
        spans: the tokens of each response, first and one past the last; in order.
        sizes: UTF-8 bytes of the string that each token adds to those before it [n].
        responses: the string of each response, without its end-of-turn token.
    """

    ids: NDArray[np.int32]
    spans: tuple[Span, ...]
    sizes: NDArray[np.int32]
    responses: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which tokens are predicted and scored [n]: the responses', never the very first."""
        scored = np.zeros(len(self.ids), np.bool_)
        for start, stop in self.spans:
            scored[max(start, 1) : stop] = True
        return scored

    @property
    def prompt(self) -> NDArray[np.int32]:
        """What stands before the last response; everything where there is none."""
        return self.ids[: self.spans[-1][0]] if self.spans else self.ids

    @property
    def response(self) -> NDArray[np.int32]:
        """The last response, its end-of-turn token included."""
        start, stop = self.spans[-1] if self.spans else (len(self.ids), len(self.ids))
        return self.ids[start:stop]

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of what is scored."""
        return int(self.sizes[self.scored].sum())

    def cut(self, start: int, stop: int) -> "Rendered":
        """The tokens from `start` up to `stop`, and what of the responses lies among them."""
        inside = [(max(s, start) - start, min(e, stop) - start) for s, e in self.spans]
        spans = tuple((s, e) for s, e in inside if s < e)
        return Rendered(self.ids[start:stop], spans, self.sizes[start:stop])


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
        turns: score "all" responses of a conversation, or the "last" alone.
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

    @property
    def vocabulary(self) -> int:
        """How many tokens the tokenizer knows."""
        return len(self.tokenizer)

    @cached_property
    def end(self) -> int | None:
        """The token that ends a response: the template's end of turn, or end of sequence."""
        probe = Row(0, "a probe", prompt="a", completion="b")
        rendered = self.render(probe)
        last = int(rendered.response[-1])
        return last if last in self._added.values() else self.tokenizer.eos_token_id

    def render(self, row: Row) -> Rendered:
        """The whole row, however long.

        Raises:
            DataError: it is a conversation and there is no template, or what the template writes
                before a response changes once the response is there.
        """
        text, spans = self._markup(row)
        cuts = sorted({edge for span in spans for edge in span})
        ids, offsets = self._encoded(text, cuts)
        begins, ends = offsets[:, 0], offsets[:, 1]
        tokens = tuple(
            (int(np.searchsorted(begins, start)), int(np.searchsorted(begins, stop)))
            for start, stop in spans
        )
        return Rendered(
            ids, tokens, _sizes(text, ends), tuple(self._bare(text[s:e]) for s, e in spans)
        )

    def prompt(self, row: Row) -> NDArray[np.int32]:
        """What stands before the row's last response, as the model sees it when it is to write."""
        return self.render(row).prompt

    @cached_property
    def _added(self) -> dict[str, int]:
        return {t.content: i for i, t in self.tokenizer.added_tokens_decoder.items()}

    def _markup(self, row: Row) -> tuple[str, list[Span]]:
        """The row as a string, and the characters of its responses."""
        eos = (self.tokenizer.eos_token or "") if self.add_eos else ""
        if row.form == "text":
            text = self._begin() + str(row.text)
            return text + eos, [(len(text) - len(str(row.text)), len(text + eos))]
        if self.chats:
            return self._conversation(row, self._messages(row))
        if row.form == "messages":
            raise DataError(
                f"{row.place} is a conversation",
                "the tokenizer has no chat template that would say how it is written down",
                "Give the tokenizer a template, or rows of `prompt` and `completion`.",
            )
        prompt = self._begin() + str(row.prompt)
        if not row.has_response:
            return prompt, []
        text = prompt + str(row.completion) + eos
        return text, [(len(prompt), len(text))]

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
        for i in turns if self.turns == "all" else turns[-1:]:
            before = self._template(messages[:i], answering=True)
            until = self._template(messages[: i + 1])
            if not (full.startswith(before) and full.startswith(until)):
                raise self._inconsistent(row, i, full, before, until)
            spans.append((len(before), len(before) + self._closed(full[len(before) : len(until)])))
        start, stop = spans[-1]
        if self.add_eos and self._bare(full[start:stop]) == full[start:stop]:
            return full[:stop] + (self.tokenizer.eos_token or ""), [*spans[:-1], (start, stop)]
        return full[:stop], spans

    def _template(self, messages: Sequence[Message], answering: bool = False) -> str:
        return self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=answering, **self.variables
        )

    def _closed(self, written: str) -> int:
        """Where a response ends: after its last added token if only blanks follow that one."""
        end = max((written.rfind(t) + len(t) for t in self._added if t in written), default=0)
        return end if end and not written[end:].strip() else len(written)

    def _bare(self, response: str) -> str:
        """A response without the token that ends it."""
        ends = (t for t in self._added if response.endswith(t))
        return response.removesuffix(max(ends, key=len, default=""))

    def _encoded(
        self, text: str, cuts: Sequence[int]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids and their offsets, no token reaching over a cut."""
        told = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = np.asarray(told["offset_mapping"], np.int64).reshape(-1, 2)
        crossing = any(((offsets[:, 0] < c) & (offsets[:, 1] > c)).any() for c in cuts)
        if not crossing:
            return np.asarray(told["input_ids"], np.int32), offsets
        edges = sorted({0, *cuts, len(text)})
        parts = [self._encoded(text[a:b], ()) for a, b in pairwise(edges)]
        return (
            np.concatenate([ids for ids, _ in parts]),
            np.concatenate([o + a for (_, o), a in zip(parts, edges, strict=False)]),
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


def _sizes(text: str, ends: NDArray[np.int64]) -> NDArray[np.int32]:
    """UTF-8 bytes that each token adds; one that ends inside a character adds all or none of it."""
    reached = np.maximum.accumulate(ends) if len(ends) else ends
    if not text.isascii():
        widths = [len(character.encode("utf-8", "surrogatepass")) for character in text]
        reached = np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])[reached]
    return np.diff(reached, prepend=0).astype(np.int32)
