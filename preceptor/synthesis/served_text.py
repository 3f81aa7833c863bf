"""Text that a model behind an OpenAI-compatible server writes, kept and made a data set.

Yoon Kim, Alexander M. Rush. "Sequence-Level Knowledge Distillation". EMNLP, 2016: the student is
trained on what the teacher writes, which needs nothing of the teacher but its text.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, final

from preceptor.data.client import Client
from preceptor.data.counter import words
from preceptor.data.rows import Row
from preceptor.errors import DataError, PreceptorError, RecipeError, ServerFailure, ServerRefusal
from preceptor.files import storage, write_text
from preceptor.models.generate import Prompt
from preceptor.models.sampling import Sampling
from preceptor.synthesis.writers import Completion
from preceptor.synthesis.written import (
    Answer,
    Answers,
    Ask,
    Filter,
    ended,
    key,
    prompt_alone,
    unique,
)

PATIENCE = 20
"""So many rows in a row that the server could not answer, and the rest is not asked."""

Endpoints = Literal["chat", "text"]
"""Conversations go to /v1/chat/completions, plain prompts to be continued to /v1/completions."""


@final
@dataclass(frozen=True)
class Voice:
    """How a served teacher is made to write.

    Args:
        sampling: of the text; no loss reads it. `top_k` is not of OpenAI's protocol: vLLM and
            SGLang know it.
        api: "chat" lets the server render the prompt with the teacher's own template.
        system: a system turn for conversations that have none.
        seed: each answer's own seed is drawn from it, the prompt and the sample's number. A server
            may take no notice.
        sample: which of several answers to the same prompt.
    """

    sampling: Sampling
    api: Endpoints = "chat"
    system: str | None = None
    seed: int = 0
    sample: int = 0

    def describe(self, model: str) -> str:
        """Who is asked and how, by which a file of answers knows its teacher."""
        return json.dumps({"model": model, **asdict(self)}, sort_keys=True)

    def question(self, row: Row) -> dict[str, Any]:
        """What is posted for a row; where the teacher has a prompt of its own, that one."""
        asked = prompt_alone(row)
        if self.api == "chat":
            said: dict[str, Any] = {"messages": self._messages(asked)}
        elif asked.form == "messages":
            raise DataError(
                f"{row.place} is a conversation",
                "a server that continues plain text does not know how it is written down",
                "Ask it as a chat (api: chat), or give rows of prompts.",
            )
        else:
            said = {"prompt": asked.teacher_prompt or asked.prompt}
        seed = words(self.seed, self.sample, int(key(row)[:15], 16)).item() >> 33
        return {**said, **settings(self.sampling), "seed": seed}

    def _messages(self, row: Row) -> list[dict[str, Any]]:
        prompt = row.teacher_prompt or row.prompt
        messages = [dict(each) for each in row.teacher_messages or row.messages]
        if row.teacher_prompt or not messages:
            messages = [{"role": "user", "content": prompt}]
        if self.system is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        return messages


def settings(sampling: Sampling) -> dict[str, Any]:
    """Sampling as OpenAI's protocol names it; what is off is not said."""
    said: dict[str, Any] = {"max_tokens": sampling.max_new, "temperature": sampling.temperature}
    said |= {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
    return said | ({"top_k": sampling.top_k} if sampling.top_k else {})


def served_by(client: Client, voice: Voice) -> Ask:
    """An `Ask` of a server: many rows at once, answers as they come.

    A row that the server refuses or fails is given its error. What concerns all rows (no key, an
    unknown model, nobody there, the deadline, `PATIENCE` rows failed in a row) is raised once what
    was already asked has come.
    """
    path = "chat/completions" if voice.api == "chat" else "completions"

    def ask(rows: Iterable[Row]) -> Iterator[tuple[Row, Answer | PreceptorError]]:
        asked: list[Row] = []
        over: list[PreceptorError] = []

        def questions() -> Iterator[dict[str, Any]]:
            for row in rows:
                if over:
                    return
                asked.append(row)
                yield voice.question(row)

        failures = 0
        for number, answer in client.each(path, questions()):
            found = answer if isinstance(answer, PreceptorError) else _read(answer)
            if isinstance(found, ServerRefusal | ServerFailure) and found.concerns_all:
                over.append(found)
                continue
            failures = failures + 1 if isinstance(found, ServerFailure) else 0
            if isinstance(found, PreceptorError) and failures == PATIENCE:
                over.append(found)
            yield asked[number], found
        if over:
            raise over[0]

    return ask


def _read(answer: Mapping[str, Any]) -> Answer | PreceptorError:
    """Text and whether it came to an end; thinking that the server keeps apart is left out."""
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        finish = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        text = finish = None
    if isinstance(text, str):
        return Answer(text, finish == "stop")
    return ServerFailure(
        f"the server answered {json.dumps(answer)[:200]}",
        "there is no text in it",
        "Look at the server's log; a longer max_new helps where all went into thinking.",
    )


def sampled_by(
    client: Client, sampling: Sampling
) -> Callable[[Sequence[Prompt], Sequence[int]], Sequence[Completion]]:
    """What answers prompts of token ids with the ids that were sampled (vLLM: `return_token_ids`).

    For `writers.Served`.
    """

    def ask(prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Completion]:
        payloads = (
            {
                "prompt": [int(token) for token in prompt],
                **settings(sampling),
                "seed": seed % (1 << 31),
                "return_token_ids": True,
            }
            for prompt, seed in zip(prompts, seeds, strict=True)
        )
        choices = [answer["choices"][0] for answer in client.all("completions", payloads)]
        return [Completion(c.get("token_ids"), c.get("finish_reason") == "stop") for c in choices]

    return ask


@final
@dataclass(frozen=True)
class Collected:
    """What `collect` did.

    Args:
        data: the data set, one row an answer.
        known, new: answers that were there already, and that came.
        failed: rows that could not be answered, each with its reason; a second call asks these
            alone.
        counts: "kept" in the data set, "unanswered", and what each filter left out.
    """

    data: Path
    known: int
    new: int
    failed: Mapping[str, str]
    counts: Mapping[str, int]


def collect(
    client: Client,
    rows: Sequence[Row],
    folder: Path,
    voice: Voice,
    *,
    samples: int = 1,
    filters: Mapping[str, Filter] | None = None,
) -> Collected:
    """Ask a server for answers to all rows, and write `data.jsonl` of them.

    The answers lie beside it, `answers-J.jsonl` for each sample, each flushed as it comes: after a
    kill the same call goes on, and asks again only for what was in flight. Other sampling settings
    need another folder.

    Args:
        client: of the server; `client.usage` counts what it cost.
        rows: prompts, with or without responses of their own.
        folder: made where it is not there.
        voice: how the teacher is to write.
        samples: answers to each prompt; of equal ones the first becomes data.
        filters: which answers become data, by name. Where none are given, what was cut at
            `max_new` does not.

    Raises:
        PreceptorError: something that concerns all rows; answers that came are kept.
    """
    if samples < 1 or (samples > 1 and voice.sampling.temperature == 0):
        raise RecipeError(
            f"{samples} answers to each prompt at temperature {voice.sampling.temperature:g}",
            "at temperature 0 there is one, and fewer than one is none",
            "Ask for one, or raise the temperature.",
        )
    filters = {"cut": ended} if filters is None else filters
    filters = {**filters, "repeated": unique()} if samples > 1 else filters
    counts, failed, known, new = Counter[str](), dict[str, str](), 0, 0
    parts: list[str] = []
    for sample in range(samples):
        this = Voice(voice.sampling, voice.api, voice.system, voice.seed, sample)
        kept = Answers(folder / f"answers-{sample}.jsonl", this.describe(client.endpoint.model))
        asked = kept.complete(rows, served_by(client, this))
        known, new = known + asked.known, new + asked.new
        failed |= asked.failed
        part = folder / f".part-{sample}.jsonl"
        counts.update(kept.data(rows, part, filters))
        parts.append(part.read_text(encoding="utf-8"))
        part.unlink()
    with storage(folder):
        write_text(folder / "data.jsonl", "".join(parts))
    return Collected(folder / "data.jsonl", known, new, failed, dict(counts))
