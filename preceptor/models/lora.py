"""Low-rank adapters (peft): "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

Dimension key: v classes, d width.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from preceptor.errors import ModelError, StorageError, nearest

_OWN = {"rank", "alpha", "targets", "dropout", "whole"}
_SEEN_TO = (
    ".*is_gradient_checkpointing",  # an attribute that transformers has renamed
    ".*tie_word_embeddings=True",  # merged weights are saved untied where an adapter unties them
    ".*fan_in_fan_out",  # GPT-2's layers are transposed, and peft notices
)
_ADAPTERS = (".lora_", ".modules_to_save.")


def with_adapters(module: nn.Module, said: Mapping[str, Any]) -> nn.Module:
    """A transformers model with fresh adapters; its own weights stand still from now on.

    Args:
        module: the base, which is changed in place.
        said: `rank` (8), `alpha` (twice the rank: what the product is scaled by, over the rank),
            `targets` (names of linear layers; all but the head where not given), `dropout` (0) and
            `whole` (names of modules that are trained as a whole, such as `lm_head`).
    """
    for key in said:
        if key not in _OWN:
            raise ModelError(
                f"`lora` was given {key!r}",
                "there is no such key",
                f"Nearest: {nearest(key, _OWN)}.",
            )
    peft = _peft()
    rank = said.get("rank", 8)
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=said.get("alpha", 2 * rank),
        lora_dropout=said.get("dropout", 0.0),
        target_modules=said.get("targets", "all-linear"),
        modules_to_save=list(said["whole"]) if said.get("whole") else None,
        task_type="CAUSAL_LM",
    )
    try:
        with _seen_to():
            return peft.get_peft_model(module, config)
    except ValueError as error:
        raise ModelError(
            f"adapters were put on {type(module).__name__} with {dict(said)}",
            str(error).strip().splitlines()[0].rstrip("."),
            "Give `targets` the last parts of its linear layers' names, such as [q_proj, v_proj].",
        ) from error


def read_adapters(module: nn.Module, folder: str | Path) -> nn.Module:
    """A transformers model with the adapters that lie in a folder in peft's own format."""
    folder = Path(folder)
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        # peft would go on to a format that runs code when it is read.
        raise StorageError(
            f"adapters were looked for in {folder}",
            f"{file.name} is missing",
            "Give the folder that peft's `save_pretrained` wrote.",
        )
    try:
        with _seen_to():
            return _peft().PeftModel.from_pretrained(module, str(folder), is_trainable=True)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"the adapters in {folder} were put on a {type(module).__name__}",
            str(error).strip().splitlines()[0].rstrip("."),
            "Use the base that they were trained on.",
        ) from error


def is_adapted(module: nn.Module) -> bool:
    """Whether a model carries adapters."""
    return hasattr(module, "peft_config") and hasattr(module, "disable_adapter")


def movable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that may be trained: of a model with adapters, those of the adapters."""
    named = dict(module.named_parameters())
    if not is_adapted(module):
        return named
    return {n: p for n, p in named.items() if any(part in f".{n}" for part in _ADAPTERS)}


def fixed_names(module: nn.Module) -> frozenset[str]:
    """The names of the parameters that adapters leave as they are; none of a model without."""
    own = movable(module)
    named = module.named_parameters(remove_duplicate=False)
    return (
        frozenset(name for name, _ in named if name not in own)
        if is_adapted(module)
        else frozenset()
    )


@contextmanager
def without_adapters(module: nn.Module) -> Iterator[None]:
    """In the block the model computes as its base; which parameters train stays as it was."""
    trains = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        with module.disable_adapter():  # pyright: ignore[reportCallIssue]
            yield
    finally:
        for parameter, train in trains:
            parameter.requires_grad_(train)


def head_weight(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """A head's weight [v, d] and bias [v] as it computes now, adapters in the graph.

    Errors:
        ModelError: it is no matrix, or its adapter no product of two.
    """
    wrapped: Any = layer
    for name in getattr(layer, "lora_A", ()):
        _require_plain(wrapped, name)
    return effective(layer)


def effective(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias as it computes now, its adapters added."""
    if hasattr(layer, "modules_to_save") and hasattr(layer, "original_module"):
        return effective(_saved_whole(layer))
    base = getattr(layer, "base_layer", None)
    if base is None:
        return _plain(layer)
    weight, bias = _plain(base)
    wrapped: Any = layer
    # An adapter that was merged is in the base's weight already.
    if wrapped.disable_adapters or wrapped.merged:
        return weight, bias
    for name in wrapped.active_adapters:
        if name in wrapped.lora_A or name in wrapped.lora_embedding_A:
            weight = weight + wrapped.get_delta_weight(name).to(weight.dtype)
    return weight, bias


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """The base's state dict by its own names, with the adapters added to its weights."""
    model: Any = module
    state: dict[str, Tensor] = {}
    inside = model.get_base_model()
    skipped = {f"{name}." for name, part in inside.named_modules() if is_wrapped(part)}
    for name, tensor in inside.state_dict().items():
        if not any(name.startswith(prefix) for prefix in skipped):
            state[name] = tensor
    with torch.no_grad():
        for name, part in inside.named_modules():
            if is_wrapped(part):
                weight, bias = effective(part)
                state[f"{name}.weight"] = weight.detach()
                if bias is not None:
                    state[f"{name}.bias"] = bias.detach()
    return state


def is_wrapped(part: nn.Module) -> bool:
    """Whether a layer carries an adapter, or a copy that is trained in its place."""
    return hasattr(part, "base_layer") or hasattr(part, "original_module")


def _saved_whole(layer: Any) -> nn.Module:
    if layer.disable_adapters:
        return layer.original_module
    return layer.modules_to_save[layer.active_adapters[0]]


def _plain(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or not weight.is_floating_point():
        raise ModelError(
            f"the head is a {type(layer).__name__}",
            "a head is a linear layer whose weight is a matrix of floating-point numbers",
            "Leave the head out of quantisation, or use a model that ends in a linear layer.",
        )
    return weight, bias if isinstance(bias, Tensor) else None


def _require_plain(layer: Any, name: str) -> None:
    """Refuse what is no product of two matrices: then there is no weight to compute."""
    dropout = layer.lora_dropout[name] if name in layer.lora_dropout else nn.Identity()
    if not isinstance(dropout, nn.Identity) and dropout.p > 0:
        raise ModelError(
            f"the head has an adapter with dropout {dropout.p:g}",
            "the head is read as one weight, and dropout acts on what goes into its adapter",
            "Set `dropout: 0`, or leave the head out of `targets`.",
        )
    if name in layer.lora_variant or layer.lora_bias.get(name):
        kind = type(layer.lora_variant.get(name)).__name__ if name in layer.lora_variant else "bias"
        raise ModelError(
            f"the head has an adapter with {kind}",
            "of adapters on a head, plain low-rank ones are read",
            "Leave the head out of `targets`, or train it as a whole.",
        )


@contextmanager
def _seen_to() -> Iterator[None]:
    """Without peft's warnings of what is seen to here."""
    with warnings.catch_warnings():
        for message in _SEEN_TO:
            warnings.filterwarnings("ignore", message=message)
        yield


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError(
            "a student with `lora` was asked for",
            f"peft does not import here ({error})",
            "Install the optional extra: pip install 'preceptor[peft]'.",
        ) from error
    return peft
