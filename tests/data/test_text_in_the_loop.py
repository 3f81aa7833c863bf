"""Packing, micro-batches and the teacher's own prompts in the training loop itself."""

from typing import Any

import pytest
import torch
import transformers

from preceptor import CE, KD, Plan, fit
from preceptor.data.arithmetic import Arithmetic
from preceptor.data.chat import Rendering
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.data.tokenizers import character_tokenizer
from preceptor.models.tapped import TappedModel
from preceptor.teachers.live import Live

ROWS = Arithmetic().rows(24)
TOKENIZER = character_tokenizer(f"{row.prompt}{row.completion}" for row in ROWS)


def model(width: int, seed: int) -> TappedModel:
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(
        "llama",
        vocab_size=len(TOKENIZER),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return TappedModel(transformers.AutoModelForCausalLM.from_config(config), causal=True)


def losses(teacher: Rendering, accumulate: int = 1, **options: Any) -> list[float]:
    texts = TextSet(ROWS, Rendering(TOKENIZER, 96), teacher)
    steps = fit(
        model(16, 1),
        Live(model(32, 2)),
        0.3 * CE() + 0.7 * KD(temperature=2),
        TextSource(texts, batch=8, **options),
        Plan(steps=3, batch=8, accumulate=accumulate),
    )
    return [step.total for step in steps]


@pytest.mark.parametrize("system", [None, "1+1=2"])
def test_packing_and_micro_batches_change_no_loss(system: str | None) -> None:
    teacher = Rendering(TOKENIZER, 128, system=system)
    expected = losses(teacher)
    for found in (
        losses(teacher, accumulate=3),
        losses(teacher, pack=96),
        losses(teacher, accumulate=2, pack=96),
    ):
        assert found == pytest.approx(expected, rel=2e-5)
    if system:
        assert losses(Rendering(TOKENIZER, 128)) != pytest.approx(expected, rel=2e-5)
