"""A few prompts, and models small enough to write in a test."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from preceptor.data.chat import Rendering
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.models.generate import Generated, Prompt
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.synthesis.writers import Local
from tests.data.tokens import ask, characters

ROWS = [ask(f"{a}+1=", str(a + 1), number=a, answer=str(a + 1)) for a in range(11)]


def texts(teacher: Rendering | None = None, **said: Any) -> TextSet:
    return TextSet(ROWS, Rendering(characters(None), 48, **said), teacher)


def source(batch: int = 4, **said: Any) -> TextSource:
    return TextSource(texts(), batch=batch, **said)


def model(seed: int = 0) -> TappedModel:
    """A random causal model over the characters, with weights large enough to have opinions."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(characters(None)),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    module = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(4.0 if parameter.ndim == 2 else 1.0)
    return TappedModel(module.eval(), causal=True)


def local(seed: int = 0, max_new: int = 6, record: bool = False) -> Local:
    return Local(model(seed), Sampling(max_new), ends=ends(), record=record)


def ends() -> frozenset[int]:
    """The end token, and some others so that random models come to an end too."""
    end = texts().rendering.end
    assert end is not None
    return frozenset({end})


@dataclass
class Scripted:
    """Writes the same tokens every time, and remembers what it was asked."""

    ids: Sequence[int]
    ended: bool = True
    asked: list[tuple[list[list[int]], list[int]]] = field(default_factory=list)

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Generated:
        self.asked.append(([np.asarray(p).tolist() for p in prompts], list(seeds)))
        ids = tuple(np.array(self.ids, dtype=np.int64) for _ in prompts)
        return Generated(ids, np.full(len(prompts), self.ended))
