"""How servers say what they thought of each token of a prompt: vLLM's form and SGLang's.

Both answer with one entry a token; entry i is the distribution that token i was predicted from,
so the first token has none.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from preceptor.errors import ServerFailure, TeacherFailure

API = Literal["vllm", "sglang"]
"""vLLM: `prompt_logprobs` of /v1/completions. SGLang: `input_top_logprobs` of /generate."""

Entries = list[tuple[float, int]]
"""Log-probabilities and token ids."""

_CLAMPED = -9999.0  # What vLLM writes for -inf, which JSON has no word for.


def question(api: API, ids: Sequence[int], k: int) -> tuple[str, dict[str, Any]]:
    """The path to ask, and what to post.

    The temperature is 1 in words: some builds divide the logits of prompts by it too.
    """
    if api == "sglang":
        return "/generate", {
            "input_ids": list(ids),
            "sampling_params": {"max_new_tokens": 1, "temperature": 1.0},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": k,
        }
    return "completions", {
        "prompt": list(ids),
        "max_tokens": 1,
        "temperature": 1.0,
        "prompt_logprobs": k,
    }


def predictions(api: API, answer: Mapping[str, Any], ids: Sequence[int], k: int) -> list[Entries]:
    """The k largest log-probabilities that each token but the first was predicted from.

    Entry i of the result is what position i predicts of token i + 1, largest first. vLLM adds the
    token that stands there where it is not among the k largest; it is left out, so that what is
    taught does not depend on where the targets come from.

    Raises:
        ServerFailure: the answer has another form.
        TeacherFailure: it is about other tokens, or its numbers are no log-probabilities.
    """
    try:
        told = _sglang(answer) if api == "sglang" else _vllm(answer)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServerFailure(
            "the server's answer holds no log-probabilities of the prompt's tokens"
            f" ({type(error).__name__}: {error})",
            f"it does not speak {api}'s form of them",
            "Use a vLLM server (or SGLang with api: sglang); `transformers serve` gives none.",
            concerns_all=True,
        ) from error
    if len(told) != len(ids):
        raise TeacherFailure(
            f"the server told of {len(told)} tokens and was asked about {len(ids)}",
            "it would be read at other positions than it speaks of",
            "Turn off what adds or cuts tokens at the server (a prefix, truncation).",
        )
    for place in range(1, len(ids)):
        own, entries = told[place]
        if own != ids[place] and ids[place] not in {token for _, token in entries}:
            raise TeacherFailure(
                f"the server's answer about token {place} does not name it (id {ids[place]})",
                "its answers are shifted, or are about another tokenisation",
                "Serve the model whose tokenizer the data is rendered with.",
            )
        if sum_exp(entries) > 1.001:
            raise TeacherFailure(
                f"the probabilities of token {place} add up to {sum_exp(entries):.3g}",
                "those are no log-probabilities",
                "Start vLLM with --logprobs-mode raw_logprobs (its default).",
            )
    finite = [[e for e in entries if e[0] > _CLAMPED] for _, entries in told[1:]]
    return [sorted(entries, key=lambda e: (-e[0], e[1]))[:k] for entries in finite]


def sum_exp(entries: Entries) -> float:
    """The probability that some entries cover."""
    return math.fsum(math.exp(min(log_p, 50.0)) for log_p, _ in entries)


def _vllm(answer: Mapping[str, Any]) -> list[tuple[int | None, Entries]]:
    told = answer["choices"][0]["prompt_logprobs"]
    return [
        (None, [(float(v["logprob"]), int(token)) for token, v in (entry or {}).items()])
        for entry in told
    ]


def _sglang(answer: Mapping[str, Any]) -> list[tuple[int | None, Entries]]:
    meta = answer["meta_info"]
    own, top = meta["input_token_logprobs"], meta["input_top_logprobs"]
    return [
        (int(o[1]), [(float(e[0]), int(e[1])) for e in entries or ()])
        for o, entries in zip(own, top, strict=True)
    ]
