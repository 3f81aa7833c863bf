"""A model's configuration made tiny: the same architecture, checked without its weights."""

from collections.abc import Mapping
from typing import Any

_WIDTH, _HEADS, _LAYERS = 32, 4, 2
_SIZES = {
    "hidden_size": _WIDTH,
    "n_embd": _WIDTH,
    "word_embed_proj_dim": _WIDTH,
    "intermediate_size": 2 * _WIDTH,
    "ffn_dim": 2 * _WIDTH,
    "n_inner": 2 * _WIDTH,
    "moe_intermediate_size": _WIDTH,
    "shared_expert_intermediate_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "n_layer": _LAYERS,
    "num_attention_heads": _HEADS,
    "n_head": _HEADS,
    "head_dim": _WIDTH // _HEADS,
    "query_pre_attn_scalar": _WIDTH // _HEADS,
    "num_experts": _HEADS,
    "num_local_experts": _HEADS,
    "num_experts_per_tok": 2,
    "rotary_dim": 4,
}
"""What to write where a configuration says a size; what it does not say stays its default."""
_NUMBERED = ("layer_types", "max_window_layers", "no_rope_layers", "dtype", "torch_dtype")
"""What counts layers, or says how weights are held: the defaults fit any number of them."""


def shrunk(config: Mapping[str, Any], vocabulary: int = 64) -> dict[str, Any]:
    """A configuration as in `config.json`, with small sizes and everything else as it was.

    Kept are what makes the architecture: whether key heads are shared, tied embeddings, biases,
    norms, scales, soft-caps, attention windows and the kind of rotary embedding. So what works
    with it in a dry pass works with the model itself, but for memory and time.

    >>> shrunk({"model_type": "qwen3", "hidden_size": 4096, "rms_norm_eps": 1e-6})
    {'model_type': 'qwen3', 'hidden_size': 32, 'rms_norm_eps': 1e-06, 'vocab_size': 64}
    """
    tiny: dict[str, Any] = {
        key: _SIZES.get(key, value) for key, value in config.items() if key not in _NUMBERED
    }
    tiny["vocab_size"] = vocabulary
    if "num_key_value_heads" in config:
        heads = config.get("num_attention_heads", config["num_key_value_heads"])
        shared = config["num_key_value_heads"] < heads
        tiny["num_key_value_heads"] = _HEADS // 2 if shared else _HEADS
    for name, value in config.items():
        if name.endswith("_token_id") and value is not None:
            tiny[name] = [0] if isinstance(value, list) else 0
    return tiny
