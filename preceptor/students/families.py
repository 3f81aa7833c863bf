"""The architectures that are known, each a table of its layers and their axes.

A small variation is a table with some rows changed, so a new decoder of the usual kind is a few
lines here and no code elsewhere.
"""

from dataclasses import replace

from preceptor.errors import ModelError
from preceptor.students.axes import FUSED, Family, layer, norm, varied

_BLOCK, _ATTENTION, _MLP = "layers.{}.", "layers.{}.self_attn.", "layers.{}.mlp."

_LLAMA = (
    layer("embedding", "embed_tokens", "rows stream"),
    norm("attention norm", _BLOCK + "input_layernorm", "before"),
    layer("query", _ATTENTION + "q_proj", "heads stream", "attention norm"),
    layer("key", _ATTENTION + "k_proj", "groups stream", "attention norm"),
    layer("value", _ATTENTION + "v_proj", "groups stream", "attention norm"),
    layer("attention out", _ATTENTION + "o_proj", "stream heads"),
    norm("mlp norm", _BLOCK + "post_attention_layernorm", "before"),
    layer("gate", _MLP + "gate_proj", "neurons stream", "mlp norm"),
    layer("up", _MLP + "up_proj", "neurons stream", "mlp norm"),
    layer("down", _MLP + "down_proj", "stream neurons"),
    norm("final norm", "norm", "before"),
    layer("head", "lm_head", "classes stream", "final norm"),
)

# Gains of queries and keys, shared by all heads.
_QWEN3 = varied(
    _LLAMA,
    norm("query norm", _ATTENTION + "q_norm", "within", "size"),
    norm("key norm", _ATTENTION + "k_norm", "within", "size"),
)

# The norm follows the writer, readers see the stream as it is; queries and keys are normalised
# over all heads at once.
_OLMO2 = varied(
    (replace(row, reads="") if row.in_block else row for row in _LLAMA),
    norm("after attention", _BLOCK + "post_attention_layernorm", "after"),
    norm("after mlp", _BLOCK + "post_feedforward_layernorm", "after"),
    norm("query norm", _ATTENTION + "q_norm", "within", "heads"),
    norm("key norm", _ATTENTION + "k_norm", "within", "groups"),
    without=("attention norm", "mlp norm"),
)

# Norms on both sides. What Llama calls the norm before the perceptron is here that after attention.
_GEMMA2 = varied(
    _LLAMA,
    norm("after attention", _BLOCK + "post_attention_layernorm", "after"),
    norm("mlp norm", _BLOCK + "pre_feedforward_layernorm", "before"),
    norm("after mlp", _BLOCK + "post_feedforward_layernorm", "after"),
)
_GEMMA3 = varied(_GEMMA2, *(row for row in _QWEN3 if row.place == "within"))

_GPT2 = (
    layer("embedding", "wte", "rows stream"),
    layer("position", "wpe", "rows stream"),
    norm("attention norm", "h.{}.ln_1", "before"),
    layer(
        "query key value", "h.{}.attn.c_attn", f"{FUSED} stream", "attention norm", transposed=True
    ),
    layer("attention out", "h.{}.attn.c_proj", "stream heads", transposed=True),
    norm("mlp norm", "h.{}.ln_2", "before"),
    layer("up", "h.{}.mlp.c_fc", "neurons stream", "mlp norm", transposed=True),
    layer("down", "h.{}.mlp.c_proj", "stream neurons", transposed=True),
    norm("final norm", "ln_f", "before"),
    layer("head", "lm_head", "classes stream", "final norm"),
)

_BERT = (
    layer("embedding", "embeddings.word_embeddings", "rows stream"),
    layer("position", "embeddings.position_embeddings", "rows stream"),
    layer("type", "embeddings.token_type_embeddings", "rows stream"),
    norm("embedding norm", "embeddings.LayerNorm", "on"),
    layer("query", "encoder.layer.{}.attention.self.query", "heads stream"),
    layer("key", "encoder.layer.{}.attention.self.key", "groups stream"),
    layer("value", "encoder.layer.{}.attention.self.value", "groups stream"),
    layer("attention out", "encoder.layer.{}.attention.output.dense", "stream heads"),
    norm("after attention", "encoder.layer.{}.attention.output.LayerNorm", "on"),
    layer("up", "encoder.layer.{}.intermediate.dense", "neurons stream"),
    layer("down", "encoder.layer.{}.output.dense", "stream neurons"),
    norm("after mlp", "encoder.layer.{}.output.LayerNorm", "on"),
    # The words' predictor: its own output lies in the space of the embeddings, to which it is tied.
    layer("transform", "cls.predictions.transform.dense", "stream stream"),
    norm("transform norm", "cls.predictions.transform.LayerNorm", "on"),
    layer("head", "cls.predictions.decoder", "classes stream"),
    layer("head bias", "cls.predictions", "classes"),
    # A sentence encoder's last map, where it has one.
    layer("sentence", "embedding.dense", "own stream"),
)
_ROBERTA = varied(
    _BERT,
    layer("transform", "lm_head.dense", "stream stream"),
    norm("transform norm", "lm_head.layer_norm", "on"),
    layer("head", "lm_head.decoder", "classes stream"),
    layer("head bias", "lm_head", "classes"),
)
_DISTILBERT = varied(
    _BERT,
    layer("query", "transformer.layer.{}.attention.q_lin", "heads stream"),
    layer("key", "transformer.layer.{}.attention.k_lin", "groups stream"),
    layer("value", "transformer.layer.{}.attention.v_lin", "groups stream"),
    layer("attention out", "transformer.layer.{}.attention.out_lin", "stream heads"),
    norm("after attention", "transformer.layer.{}.sa_layer_norm", "on"),
    layer("up", "transformer.layer.{}.ffn.lin1", "neurons stream"),
    layer("down", "transformer.layer.{}.ffn.lin2", "stream neurons"),
    norm("after mlp", "transformer.layer.{}.output_layer_norm", "on"),
    layer("transform", "vocab_transform", "stream stream"),
    norm("transform norm", "vocab_layer_norm", "on"),
    layer("head", "vocab_projector", "classes stream"),
    without=("type", "head bias"),
)

_VIT = (
    layer("patches", "embeddings.patch_embeddings.projection", "stream own own own"),
    layer("class token", "embeddings.cls_token", "own own stream"),
    layer("position", "embeddings.position_embeddings", "own own stream"),
    norm("attention norm", "layers.{}.layernorm_before", "before"),
    layer("query", "layers.{}.attention.q_proj", "heads stream", "attention norm"),
    layer("key", "layers.{}.attention.k_proj", "groups stream", "attention norm"),
    layer("value", "layers.{}.attention.v_proj", "groups stream", "attention norm"),
    layer("attention out", "layers.{}.attention.o_proj", "stream heads"),
    norm("mlp norm", "layers.{}.layernorm_after", "before"),
    layer("up", "layers.{}.mlp.fc1", "neurons stream", "mlp norm"),
    layer("down", "layers.{}.mlp.fc2", "stream neurons"),
    norm("final norm", "layernorm", "before"),
    layer("classifier", "classifier", "classes stream", "final norm"),
)
# The same as transformers before version 5 called its parts, and as files still do.
_VIT_IN_FILES = varied(
    _VIT,
    norm("attention norm", "encoder.layer.{}.layernorm_before", "before"),
    layer("query", "encoder.layer.{}.attention.attention.query", "heads stream", "attention norm"),
    layer("key", "encoder.layer.{}.attention.attention.key", "groups stream", "attention norm"),
    layer("value", "encoder.layer.{}.attention.attention.value", "groups stream", "attention norm"),
    layer("attention out", "encoder.layer.{}.attention.output.dense", "stream heads"),
    norm("mlp norm", "encoder.layer.{}.layernorm_after", "before"),
    layer("up", "encoder.layer.{}.intermediate.dense", "neurons stream", "mlp norm"),
    layer("down", "encoder.layer.{}.output.dense", "stream neurons"),
)
_ZOO_VIT = (
    layer("patches", "embed", "stream own own own"),
    layer("class token", "token", "own own stream"),
    layer("position", "position", "own own stream"),
    norm("attention norm", "blocks.{}.norm1", "before"),
    layer(
        "query key value",
        "blocks.{}.attention.query_key_value",
        f"{FUSED} stream",
        "attention norm",
    ),
    layer("attention out", "blocks.{}.attention.project", "stream heads"),
    norm("mlp norm", "blocks.{}.norm2", "before"),
    layer("up", "blocks.{}.mlp.0", "neurons stream", "mlp norm"),
    layer("down", "blocks.{}.mlp.2", "stream neurons"),
    norm("final norm", "norm", "before"),
    layer("classifier", "head", "classes stream", "final norm"),
)

FAMILIES = (
    Family(("llama", "mistral", "qwen2"), _LLAMA, "rms", rotary=True),
    Family(("qwen3", "qwen3_text"), _QWEN3, "rms", rotary=True),
    Family(("olmo2",), _OLMO2, "rms", rotary=True),
    Family(("gemma",), _LLAMA, "rms+1", rotary=True, scaled_embedding=True),
    Family(("gemma2",), _GEMMA2, "rms+1", rotary=True, scaled_embedding=True),
    Family(("gemma3_text",), _GEMMA3, "rms+1", rotary=True, scaled_embedding=True),
    Family(("gpt2",), _GPT2, "layer"),
    Family(("bert",), _BERT, "layer"),
    Family(("roberta", "xlm-roberta"), _ROBERTA, "layer"),
    Family(("distilbert",), _DISTILBERT, "layer"),
    Family(("vit",), _VIT, "layer"),
    Family(("vit",), _VIT_IN_FILES, "layer"),
    Family(("zoo vit",), _ZOO_VIT, "layer"),
)


def families(model_type: str) -> tuple[Family, ...]:
    """The tables of an architecture: one, or one for each way its parts were called.

    Errors:
        ModelError: there is none.
    """
    found = tuple(family for family in FAMILIES if model_type in family.types)
    if not found:
        known = dict.fromkeys(name for family in FAMILIES for name in family.types)
        raise ModelError(
            f"a student was to begin inside a {model_type!r} model",
            "it is not written down which axes that architecture's tensors carry",
            f"Start it at random, or use one that is: {', '.join(known)}.",
        )
    return found
