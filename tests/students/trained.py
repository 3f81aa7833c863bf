"""A language of pairs, and a small model that knows it."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.types import Inputs
from tests.students.models import spec

VOCABULARY = 61
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
BIG = {
    **SMALL,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def tokens(count: int, seed: int) -> Tensor:
    """Text [count, 24]: each token says much of what comes after it."""
    drawn = torch.Generator().manual_seed(17)
    after = torch.softmax(3 * torch.randn(VOCABULARY, VOCABULARY, generator=drawn), -1)
    generator = torch.Generator().manual_seed(seed)
    text = [torch.randint(VOCABULARY, (count,), generator=generator)]
    for _ in range(23):
        text.append(torch.multinomial(after[text[-1]], 1, generator=generator)[:, 0])
    return torch.stack(text, 1)


def inputs(count: int, seed: int) -> dict[str, Tensor]:
    """As a model reads them."""
    ids = tokens(count, seed)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def calibration() -> Sequence[Inputs]:
    """A thousand tokens and a half."""
    return [inputs(32, 1000 + seed) for seed in range(2)]


def divergence(name: str) -> Callable[[TappedModel], float]:
    """From the teacher of that name, in nats a token, on text that nobody has seen."""

    def log_p(model: TappedModel) -> Tensor:
        with torch.no_grad():
            return model.eval().module(**inputs(48, 5000)).logits.log_softmax(-1)

    theirs = log_p(teacher(name))
    return lambda model: (theirs.exp() * (theirs - log_p(model))).sum(-1).mean().item()


@cache
def teacher(name: str) -> TappedModel:
    """A model of an architecture after 80 steps; not to be changed."""
    torch.manual_seed(0)
    model = load_model(spec(name, **BIG))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for step in range(80):
        ids = tokens(32, step)
        found = model.module(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
    return model.eval()


def student(name: str, **said: Any) -> TappedModel:
    """Half of it in every direction, two blocks of three, as it is drawn."""
    torch.manual_seed(1)
    return load_model(spec(name, **{**SMALL, **said}))
