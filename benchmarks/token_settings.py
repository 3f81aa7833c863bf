"""Language models, rows and distributions that the scripts about token caches share."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from preceptor.data.collate import Example, collated
from preceptor.data.source import Source
from preceptor.data.tokenizers import bpe_tokenizer
from preceptor.models.tapped import TappedModel
from preceptor.teachers.base import Teacher
from preceptor.types import Batch, Dense, Needs, Signal

LENGTH = 129


def language_model(vocabulary: int, width: int, layers: int, seed: int = 0) -> TappedModel:
    """A Llama with a tied head."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    return TappedModel(AutoModelForCausalLM.from_config(config), causal=True)


def rows_of(ids: Sequence[int] | Tensor, first: int = 0, batch: int = 8) -> list[Batch]:
    """Consecutive ids as rows of `LENGTH` tokens, all but the first scored."""
    whole = np.asarray(ids, np.int32)
    rows = [whole[at : at + LENGTH] for at in range(0, len(whole) - LENGTH + 1, LENGTH - 1)]
    scored = np.arange(LENGTH) >= 1
    examples = [Example(row, scored, first + number) for number, row in enumerate(rows)]
    return [
        collated(examples[at : at + batch], pad=0, length=LENGTH)
        for at in range(0, len(examples), batch)
    ]


class Repeating(Source):
    """A few batches, over and over."""

    def __init__(self, batches: Sequence[Batch], vocabulary: int) -> None:
        self.batches, self.step = batches, 0
        self.num_classes, self.num_examples = vocabulary, sum(map(len, batches))

    @property
    def labels(self) -> Tensor:
        """None."""
        return torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches there are."""
        return len(self.batches)

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """The next batch."""
        del rank, world
        self.step += 1
        return self.batches[self.step % len(self.batches)]

    def sample(self, count: int = 2) -> Batch:
        """Of the first batch."""
        return self.batches[0].rows(0, count)

    def state(self) -> dict[str, Any]:
        """Steps taken."""
        return {"step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        self.step = state["step"]


def encoded(files: Sequence[Path], vocabulary: int) -> tuple[Tensor, int]:
    """The files' text in a byte-pair encoding of their own, and how many tokens that found."""
    lines = [line for file in files for line in file.read_text().splitlines() if line.strip()]
    tokenizer = bpe_tokenizer(lines, vocabulary)
    ids = tokenizer("\n".join(lines), add_special_tokens=False).input_ids
    return torch.tensor(ids), len(tokenizer)


def trained(ids: Tensor, vocabulary: int, nats: float) -> TappedModel:
    """A small language model that has learnt `ids`, over and over, down to so many nats a token."""
    model = language_model(vocabulary, 192, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    generator, mean = torch.Generator().manual_seed(0), math.log(vocabulary)
    while mean > nats:
        starts = torch.randint(len(ids) - LENGTH, (8,), generator=generator).tolist()
        rows = torch.stack([ids[at : at + LENGTH] for at in starts])
        loss = model.module(input_ids=rows, labels=rows).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += 0.05 * (float(loss.detach()) - mean)
    return model.eval()


class Peaked(Teacher):
    """Made, not trained: logits -a log(rank), each rank's class drawn evenly, a drawn by position.

    The ids of a trained model lie where frequent tokens are, close together; here they lie
    anywhere, so that no cache of them can be smaller. a is log-normal around 1.9, which gives
    fifty draws of about twelve different classes in the mean, as arXiv:2503.16870 reports of
    trained models.
    """

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def offers(self) -> Needs:
        """Logits."""
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    def signal(self, batch: Batch) -> Signal:
        """Each row's own."""
        scored = batch.mask("all")
        logits = torch.zeros(*scored.shape, self.vocabulary)
        order = -(torch.arange(self.vocabulary) + 1.0).log()
        for b, row in enumerate(batch.ids.tolist()):
            generator = torch.Generator().manual_seed(row)
            for t in scored[b].nonzero().squeeze(1).tolist():
                a = 1.9 * math.exp(0.4 * torch.randn((), generator=generator).item())
                ranks = torch.randperm(self.vocabulary, generator=generator)
                logits[b, t] = a * order[ranks]
        return Signal(Dense(logits))
