"""Language models of transformers, seen as a backbone that gives hidden states, and a head.

Nothing is assumed about where an architecture keeps its backbone: the model's own forward pass
runs, and what its output layer is given is taken on the way. So whatever an architecture does
before its head (a projection, a transform, a scale) is in the hidden states.

Dimension key: b examples, t tokens, d width, v classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.dry import undisturbed
from preceptor.models.lora import head_weight
from preceptor.types import Head

_FACTORS = ("logit_scale", "lm_head_multiplier")
"""What configurations call a number that logits are multiplied with."""
_POWERS = {"hyperclovax": 1, "minicpm3": 0}
"""To what power logits are multiplied with `logits_scaling`, by type: others are divided by it,
and MiniCPM3 divides what its head is given."""
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")

_STEEP = 40.0
"""Logits of this size show a soft-cap, a scale and a bias that small ones would hide."""


def bare(module: nn.Module) -> Any:
    """The transformers model inside an adapter's wrapping, or itself."""
    inside = getattr(module, "get_base_model", None)
    return inside() if callable(inside) else module


def context_length(module: nn.Module) -> int | None:
    """How many tokens a model was made to see; None where its configuration does not say."""
    held = getattr(bare(module).config.get_text_config(), "max_position_embeddings", None)
    return int(held) if held else None


def output_layer(module: nn.Module) -> nn.Module:
    """The layer that makes logits of hidden states."""
    model = bare(module)
    layer = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(layer, nn.Module):
        raise ModelError(
            f"a language model was asked of {type(model).__name__}",
            "it names no output layer (`get_output_embeddings`)",
            "Use a causal language model of transformers.",
        )
    return layer


def last_hidden(
    module: nn.Module, inputs: Mapping[str, Tensor], *, through: nn.Module | None = None
) -> Float[Tensor, "b t d"]:
    """What the model's own forward pass gives to its output layer, which then gets no positions.

    `through` is what to call where the model is wrapped, so that a wrapper sees the pass.
    """
    seen: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        if hidden.dim() != 3:
            shape = list(hidden.shape)
            raise _unlike(module, f"its output layer is given {shape}, and not [b, t, d]")
        seen.append(hidden)
        return hidden[:, :0]

    with _given(output_layer(module), keep):
        (through or module)(**inputs, use_cache=False)
    if len(seen) != 1:
        raise _unlike(module, f"its output layer was called {len(seen)} times in one pass")
    return seen[0]


def language_head(module: nn.Module) -> Head:
    """The model's own head: weight (tied, or with its adapters), bias, scale and soft-cap."""
    config = bare(module).config.get_text_config()
    weight, bias = head_weight(output_layer(module))
    scale = 1.0
    for name in _FACTORS:
        scale *= float(getattr(config, name, None) or 1.0)
    scaling = float(getattr(config, "logits_scaling", None) or 1.0)
    scale *= scaling ** _POWERS.get(config.model_type, -1)
    caps = [float(getattr(config, name, None) or 0.0) for name in _CAPS]
    return Head(weight, bias, scale, max(caps))


def verify_head(module: nn.Module) -> None:
    """Raise `ModelError` where hidden states and head do not give the model's own logits.

    Two small forward passes on a padded batch, as they are and with hidden states so large that
    a soft-cap, a scale or a bias that was overlooked shows. It leaves no trace.
    """
    inputs = _probe(module)
    with undisturbed(module):
        module.eval()
        own = module(**inputs, use_cache=False).logits.float()
        hidden = last_hidden(module, inputs)
        head = language_head(module)
        _agree(module, own, head.logits(hidden), hidden.dtype)
        raw = Head(head.weight, head.bias).logits(hidden).abs().max().item()
        factor = _STEEP / max(raw, 1e-6)
        with _given(output_layer(module), lambda given: given * factor):
            own = module(**inputs, use_cache=False).logits.float()
        _agree(module, own, head.logits(hidden * factor), hidden.dtype)


def _probe(module: nn.Module) -> dict[str, Tensor]:
    """Two rows of ids, one of them padded on the right."""
    device = next(module.parameters()).device
    classes = bare(module).config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(classes, (2, 6), generator=generator).to(device)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _agree(module: nn.Module, own: Tensor, ours: Tensor, dtype: torch.dtype) -> None:
    if own.shape != ours.shape:
        shapes = f"{list(own.shape)}, not {list(ours.shape)}"
        raise _unlike(module, f"its own logits are {shapes}")
    gap = (own - ours.float()).abs().max().item() / max(1.0, own.abs().max().item())
    # In half precision the model rounds its logits, and again where it scales or caps them.
    if not gap <= (1e-4 if dtype in (torch.float32, torch.float64) else 3e-2):
        raise _unlike(module, f"its own logits differ by {gap:.3g} of the largest")


def _unlike(module: nn.Module, why: str) -> ModelError:
    return ModelError(
        f"{type(bare(module)).__name__} was taken apart into hidden states and head",
        why,
        "Report the architecture. With dense logits it can be trained meanwhile: "
        "`factory: package.module:function` that returns the model.",
    )


@contextmanager
def _given(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """In the block the layer is given what `change` makes of what it would be given."""

    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(arguments[0]), *arguments[1:])

    handle = layer.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
