"""Twelve teachers of arithmetic for one small student: temperatures, corruption, copies, length."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

from preceptor.data.arithmetic import Arithmetic
from preceptor.data.chat import Rendering
from preceptor.data.rows import Row
from preceptor.data.text import TextSet
from preceptor.models.generate import generate
from preceptor.models.load import load_model
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from tests.data.tokens import ask, characters

PROMPTS, RESPONSES = 24, 3
_ALPHABET = "0123456789+-*=#\n "
Writer = Callable[[Row, int], str]


def rendering() -> Rendering:
    return Rendering(characters(None), 96)


@cache
def student(steps: int = 60) -> TappedModel:
    """A language model of 0.1 M parameters that has begun to learn arithmetic."""
    torch.manual_seed(0)
    read = rendering()
    shape = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = {"model_type": "llama", "vocab_size": read.vocabulary, **shape, **heads, **ids}
    model = load_model({"causal": config})
    texts = TextSet(list(Arithmetic().rows(512, "train", 1)), read)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    order = torch.randperm(len(texts))
    for part in order.repeat(8).split(32)[:steps]:
        batch = texts.batch(part.numpy())
        mask = batch.mask("all")
        shown = model(batch.inputs).projection
        loss = F.cross_entropy(shown.head.logits(shown.hidden[mask]), batch.labels[mask])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@cache
def teachers() -> dict[str, tuple[TextSet, np.ndarray]]:
    """What each wrote, and the prompt that each response answers."""
    rows = list(Arithmetic().rows(PROMPTS, "validation", 0))
    found: dict[str, tuple[TextSet, np.ndarray]] = {}
    for name, write in _writers(rows).items():
        answers = [
            ask(row.prompt or "", write(row, draw), number=PROMPTS * draw + i)
            for draw in range(RESPONSES)
            for i, row in enumerate(rows)
        ]
        found[name] = TextSet(answers, rendering()), np.tile(np.arange(PROMPTS), RESPONSES)
    return found


def _writers(rows: list[Row]) -> dict[str, Writer]:
    place = {row.prompt: i for i, row in enumerate(rows)}

    def gold(row: Row, _: int) -> str:
        return row.completion or ""

    def corrupted(share: float) -> Writer:
        def write(row: Row, draw: int) -> str:
            random = np.random.default_rng([place[row.prompt], draw])
            said = list(gold(row, draw))
            for i in (random.random(len(said)) < share).nonzero()[0]:
                said[i] = _ALPHABET[random.integers(len(_ALPHABET))]
            return "".join(said)

        return write

    def copied(write: Writer) -> Writer:
        return lambda row, _: write(row, 0)

    def other(row: Row, draw: int) -> str:
        return gold(rows[(place[row.prompt] + 1 + draw) % len(rows)], draw)

    def verbose(row: Row, draw: int) -> str:
        return "\n".join(f"{line}\n{line}" for line in gold(row, draw).split("\n")[: -1 - draw % 2])

    def terse(row: Row, draw: int) -> str:
        return gold(row, draw).split("\n")[-1][draw % 2 :]

    sampled = {f"temperature {t}": _sampled(rows, t) for t in (0.3, 0.8, 2.0)}
    return {
        **sampled,
        "copies": copied(sampled["temperature 0.8"]),
        "half copies": lambda row, draw: sampled["temperature 0.8"](row, draw // 2),
        **{f"corrupted {share}": corrupted(share) for share in (0.02, 0.15, 0.5)},
        "copied corruption": copied(corrupted(0.15)),
        "others' answers": other,
        "verbose": verbose,
        "terse": terse,
    }


def _sampled(rows: list[Row], temperature: float) -> Writer:
    texts = TextSet(
        [ask(row.prompt or "", "", number=i) for i, row in enumerate(rows)], rendering()
    )
    tokenizer, end = texts.rendering.tokenizer, texts.rendering.end
    assert end is not None
    written: list[list[str]] = []
    for draw in range(RESPONSES):
        seeds = [1000 * draw + i for i in range(len(rows))]
        found = generate(
            student(),
            texts.prompts(range(len(rows))),
            Sampling(max_new=32, temperature=temperature),
            seeds=seeds,
            ends=[end],
        )
        written.append([tokenizer.decode(each, skip_special_tokens=True) for each in found.ids])
    place = {row.prompt: i for i, row in enumerate(rows)}
    return lambda row, draw: written[draw][place[row.prompt]]
