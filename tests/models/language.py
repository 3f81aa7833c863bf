"""Tiny random language models of several architectures."""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    Olmo2Config,
    Qwen3Config,
)

from preceptor.models.tapped import TappedModel

CLASSES = 61
_SMALL: dict[str, Any] = {
    "vocab_size": CLASSES,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
ARCHITECTURES: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**_SMALL),
    "qwen3": lambda: Qwen3Config(**_SMALL, head_dim=8),
    "olmo2": lambda: Olmo2Config(**_SMALL),
    "gemma2": lambda: Gemma2Config(
        **_SMALL, head_dim=8, sliding_window=6, final_logit_softcapping=3.0
    ),
    "gpt2": lambda: GPT2Config(
        vocab_size=CLASSES, n_embd=16, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0.3
    ),
}


def language_model(name: str = "llama", seed: int = 0, *, vocabulary: int = 0) -> TappedModel:
    """A causal model in eval mode, with weights large enough to have opinions."""
    torch.manual_seed(seed)
    module = AutoModelForCausalLM.from_config(ARCHITECTURES[name]())
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4.0)
    return TappedModel(module.eval(), causal=True, vocabulary=vocabulary)
