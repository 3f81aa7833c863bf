"""Language models of transformers, seen as a backbone that gives hidden states, and a head.

Dimension key: b examples, t tokens, d width, v classes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.dry import undisturbed
from preceptor.types import Head


def bare(module: nn.Module) -> Any:
    """The transformers model inside an adapter's wrapping, or itself."""
    inside = getattr(module, "get_base_model", None)
    return inside() if callable(inside) else module


def last_hidden(module: nn.Module, inputs: Mapping[str, Tensor]) -> Float[Tensor, "b t d"]:
    """What the head would read: the backbone's last hidden states, after its final norm."""
    model = bare(module)
    backbone = getattr(model, model.base_model_prefix)
    return backbone(**inputs, use_cache=False).last_hidden_state


def language_head(module: nn.Module) -> Head:
    """The model's own head: weight (tied or not), bias, scale and soft-cap."""
    model = bare(module)
    linear, config = model.get_output_embeddings(), model.config
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    cap = float(getattr(config, "final_logit_softcapping", None) or 0.0)
    return Head(linear.weight, linear.bias, scale, cap)


def verify_head(module: nn.Module) -> None:
    """Raise `ModelError` where hidden states and head do not give the model's own logits."""
    model = bare(module)
    first = next(module.parameters())
    count = min(model.config.get_text_config().vocab_size, 64)
    ids = torch.arange(count, device=first.device).view(1, -1)[:, :8]
    with undisturbed(module):
        module.eval()
        own = module(input_ids=ids, use_cache=False).logits.float()
        ours = language_head(module).logits(last_hidden(module, {"input_ids": ids})).float()
    gap = (own - ours).abs().max().item()
    if own.shape != ours.shape or gap > 1e-2 * max(1.0, own.abs().max().item()):
        raise ModelError(
            f"the head of {type(model).__name__} was taken apart: logits differ by {gap:.3g}",
            "they must be those of the model's own forward pass",
            "Report the architecture; until then train it with dense logits.",
        )
