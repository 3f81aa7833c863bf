"""Tiny random configurations of the architectures that language models come in."""

from typing import Any

_BASE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_GEMMA = {**_BASE, "head_dim": 8}
_GPT = {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
_SOFT = {"query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0}

# Ids of special tokens must lie in so small a vocabulary.
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _BASE,
    "mistral": _BASE,
    "qwen2": {**_BASE, "tie_word_embeddings": True},
    "qwen3": _GEMMA,
    "olmo2": _BASE,
    "gemma": _GEMMA,
    "gemma2": {**_GEMMA, **_SOFT},
    "gemma3_text": {**_GEMMA, **_SOFT},
    "gpt2": _GPT,
    "phi": _BASE,
    "gptj": {**_GPT, "rotary_dim": 4},
    "cohere": {**_BASE, "logit_scale": 0.25},
    "granite": {**_BASE, "logits_scaling": 4.0},
    "bert": {**_BASE, "is_decoder": True},
    "opt": {
        "vocab_size": 61,
        "hidden_size": 16,
        "word_embed_proj_dim": 8,
        "ffn_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
    },
}


def configuration(name: str) -> dict[str, Any]:
    """What `load_model({"causal": ...})` takes for an architecture."""
    return {"model_type": name, **ARCHITECTURES[name], **_IDS}
