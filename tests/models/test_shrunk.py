"""Configurations as the hub's models have them, written down from memory."""

from typing import Any

import pytest
import torch

from preceptor.models.load import load_model
from preceptor.models.shrunk import shrunk

_COMMON: dict[str, Any] = {"rms_norm_eps": 1e-6, "attention_bias": False, "hidden_act": "silu"}
HUB: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-8B": {
        **_COMMON,
        "model_type": "qwen3",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_window_layers": 36,
        "vocab_size": 151936,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "Qwen/Qwen2.5-0.5B": {
        **_COMMON,
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_window_layers": 24,
        "vocab_size": 151936,
        "eos_token_id": 151643,
        "tie_word_embeddings": True,
    },
    "meta-llama/Llama-3.2-1B": {
        **_COMMON,
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "eos_token_id": [128001, 128008, 128009],
        "bos_token_id": 128000,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
    },
    "allenai/OLMo-2-0425-1B": {
        **_COMMON,
        "model_type": "olmo2",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 100352,
        "eos_token_id": 100257,
        "pad_token_id": 100277,
    },
    "google/gemma-2-2b": {
        "model_type": "gemma2",
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "vocab_size": 256000,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
        "sliding_window": 4096,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    },
    "openai-community/gpt2": {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
    },
}


@pytest.mark.parametrize("name", HUB)
def test_a_hub_model_s_architecture_is_tried_without_its_weights(name: str) -> None:
    config = HUB[name]
    model = load_model({"causal": shrunk(config), "vocabulary": 60})
    assert sum(p.numel() for p in model.parameters()) < 100_000
    own: Any = model.module.config
    for key in ("tie_word_embeddings", "final_logit_softcapping", "sliding_window"):
        if key in config:
            assert getattr(own, key) == config[key]
    if "num_key_value_heads" in config:
        shared = config["num_key_value_heads"] < config["num_attention_heads"]
        assert shared == (own.num_key_value_heads < own.num_attention_heads)
    ids = torch.arange(10).view(2, 5)
    shown = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).projection
    assert shown.log_probs(1.0).shape == (2, 5, 60)
