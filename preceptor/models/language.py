"""Causal language models of transformers: made from a recipe's words, and put into a folder.

    {causal: Qwen/Qwen3-0.6B, dtype: bfloat16}                      # a hub name or a folder
    {causal: {model_type: llama, hidden_size: 64, ...}}             # a configuration, fresh weights
    {causal: ./base, lora: {rank: 16, targets: [q_proj, v_proj]}}   # adapters on a frozen base
    {causal: ./base, adapters: runs/one/student/adapter}            # adapters that peft saved

`pretrained: false` reads a name's configuration alone. `arguments` change the configuration,
`attention` names its implementation, `dtype` is what weights are held in (float32 where nothing
is said), `gradient_checkpointing` recomputes activations, `vocabulary` says how many of the
head's rows are classes: many models pad their vocabulary, and no token has the rest.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from preceptor.errors import ModelError, StorageError, nearest
from preceptor.models.causal import bare, language_head, verify_head
from preceptor.models.hub import configuration, has_weights, not_found, quiet
from preceptor.models.lora import is_adapted, is_wrapped, merged_state, read_adapters, with_adapters
from preceptor.models.tapped import TappedModel

ADAPTERS = "adapter"
"""The folder, inside a saved student's, of its adapters in peft's own format."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def from_causal(spec: Mapping[str, Any]) -> TappedModel:
    """A causal language model that shows hidden states and its head.

    In train mode where its weights are fresh, else in eval mode. Its head is compared with its
    own forward pass before anything else is done with it.

    Errors:
        ModelError: no such model or key, an architecture that cannot be taken apart, a vocabulary
            that does not fit, weights that do not belong to the configuration.
        StorageError: a weights file that is damaged.
    """
    source = cast("str | Mapping[str, Any]", spec["causal"])
    pretrained = isinstance(source, str) and spec.get("pretrained", has_weights(source))
    config = _configured(spec)
    module = _read(str(source), config, spec) if pretrained else _fresh(config, spec)
    if spec.get("gradient_checkpointing"):
        _recompute(module)
    if "lora" in spec:
        module = with_adapters(module, spec["lora"])
    if "adapters" in spec:
        module = read_adapters(module, spec["adapters"])
    verify_head(module)
    rows = len(language_head(module).weight)
    classes = _vocabulary(rows, spec)
    found = {**spec, "classes": classes}
    model = TappedModel(
        module, causal=True, spec=found, vocabulary=classes if classes < rows else 0
    )
    # A LoRA student of trained weights is still in eval mode: the loop sets the mode itself.
    return model.eval() if pretrained else model.train()


def write_language_model(
    model: TappedModel, draft: Path, tokenizer: Any = None, *, merged: bool = True
) -> None:
    """Everything that `AutoModelForCausalLM.from_pretrained` and vLLM read, into a folder.

    A student with adapters is written with its adapters added to the weights, and the adapters
    alone beside that, in `adapter/`; with `merged=False` the adapters alone.
    """
    module = cast("Any", model.module)
    inside = bare(module)
    with quiet():
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)
            if isinstance(model.spec.get("causal"), Mapping):
                _name_special_tokens(inside, tokenizer)
        if not is_adapted(module):
            module.save_pretrained(draft)
            return
        # The base keeps its embeddings; peft would otherwise store them again and say so.
        module.save_pretrained(draft / ADAPTERS, save_embedding_layers=False)
        if merged:
            _write_merged(module, draft)


def _write_merged(module: nn.Module, draft: Path) -> None:
    inside, state = bare(module), merged_state(module)
    tied = getattr(inside.config, "tie_word_embeddings", False)
    ends = (inside.get_input_embeddings(), inside.get_output_embeddings())
    if tied and any(is_wrapped(layer) for layer in ends):
        # Read again as one weight, the adapter of either would be lost.
        inside.config.tie_word_embeddings = False
    try:
        inside.save_pretrained(draft, state_dict=state)
    finally:
        inside.config.tie_word_embeddings = tied


def language_card(model: TappedModel, *, merged: bool = True) -> dict[str, Any]:
    """What makes a saved language model again, but for the folder's name."""
    inside = bare(model.module)
    spec = {k: v for k, v in model.spec.items() if k not in ("lora", "adapters")}
    spec["dtype"] = str(inside.dtype).removeprefix("torch.")
    if is_adapted(model.module) and not merged:
        _require_named_base(spec.get("causal"))
        return {**spec, "adapters": ADAPTERS}
    spec = {k: v for k, v in spec.items() if k not in ("pretrained", "arguments")}
    # The whole configuration says what there was; it is read from the folder's own.
    spec["causal"] = inside.config.to_diff_dict()
    return spec


def _require_named_base(source: Any) -> None:
    if not isinstance(source, str):
        raise ModelError(
            "adapters alone were to be saved",
            "their base is a configuration with weights drawn anew, and is found nowhere else",
            "Save the merged weights.",
        )


def _recompute(module: Any) -> None:
    """Activations are computed again in the backward pass, by the kind that keeps taps whole."""
    # transformers before and after it renamed the method.
    after = getattr(module, "activation_checkpointing_enable", None)
    (after or module.gradient_checkpointing_enable)({"use_reentrant": False})


def _configured(spec: Mapping[str, Any]) -> Any:
    source, config = spec["causal"], configuration(spec["causal"])
    config = config.get_text_config()
    if isinstance(source, Mapping) and "vocab_size" not in source and "classes" in spec:
        config.vocab_size = spec.get("vocabulary", spec["classes"])
    for name, value in spec.get("arguments", {}).items():
        if not hasattr(config, name):
            known = config.to_dict()
            raise ModelError(
                f"`arguments` names {name!r}",
                f"the configuration of {config.model_type} has nothing of that name",
                f"Nearest: {nearest(name, known)}.",
            )
        setattr(config, name, value)
    return config


def _fresh(config: Any, spec: Mapping[str, Any]) -> Any:
    import transformers

    attention = {"attn_implementation": spec["attention"]} if "attention" in spec else {}
    if (getattr(config, "pad_token_id", None) or 0) >= getattr(config, "vocab_size", math.inf):
        # A kind's default is an id of the vocabulary that it was published with.
        config.pad_token_id = None
    try:
        return transformers.AutoModelForCausalLM.from_config(
            config, dtype=_dtype(spec), **attention
        )
    except ValueError as error:
        raise ModelError(
            f"a causal language model of type {config.model_type!r} was asked for",
            str(error).strip().splitlines()[0].rstrip("."),
            "Use an architecture that has a causal language model.",
        ) from error


def _read(source: str, config: Any, spec: Mapping[str, Any]) -> Any:
    import transformers
    from safetensors import SafetensorError

    attention = {"attn_implementation": spec["attention"]} if "attention" in spec else {}
    try:
        # Weights are read from safetensors alone: the other format runs code when it is read.
        with quiet():
            auto: Any = transformers.AutoModelForCausalLM
            module, loaded = auto.from_pretrained(
                source,
                config=config,
                dtype=_dtype(spec),
                use_safetensors=True,
                output_loading_info=True,
                **attention,
            )
    except SafetensorError as error:
        raise StorageError(
            f"the weights of {source} were read",
            f"a file is truncated or no safetensors file ({error})",
            "Fetch or save them again.",
        ) from error
    except (OSError, ValueError) as error:
        raise not_found(source, error) from error
    except RuntimeError as error:
        raise _other_weights(source, str(error).strip().splitlines()[0]) from error
    if missing := sorted(loaded["missing_keys"]):
        raise _other_weights(source, f"{len(missing)} tensors are missing, such as {missing[0]}")
    return module


def _other_weights(source: str, why: str) -> ModelError:
    return ModelError(
        f"the weights of {source} were put into the model of its configuration",
        why.rstrip("."),
        "Keep weights and configuration of one model together, and `arguments` from its shape.",
    )


def _dtype(spec: Mapping[str, Any]) -> torch.dtype:
    name = str(spec.get("dtype", "float32"))
    if name not in _DTYPES:
        raise ModelError(
            f"dtype: {name}", f"weights are held in {', '.join(_DTYPES)}", "Say one of these."
        )
    return _DTYPES[name]


def _vocabulary(rows: int, spec: Mapping[str, Any]) -> int:
    count = spec.get("vocabulary", rows)
    if not 0 < count <= rows:
        raise ModelError(
            f"vocabulary: {count}",
            f"the model's head has {rows} rows, one a class",
            "Say how many of them are tokens of its tokenizer, or leave it out.",
        )
    if spec.get("classes", count) != count:
        raise ModelError(
            f"the model tells {count} classes apart",
            f"the recipe says `classes: {spec['classes']}`",
            "Where rows beyond the tokenizer's are padding, say `vocabulary`.",
        )
    return count


def _name_special_tokens(model: Any, tokenizer: Any) -> None:
    """A configuration's default ids mean nothing to a tokenizer that came later."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(tokenizer, name, None)
        setattr(model.config, name, value)
        if getattr(model, "generation_config", None) is not None:
            setattr(model.generation_config, name, value)
