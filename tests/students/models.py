"""Tiny models of every architecture a student may begin in, with norms and biases of their own."""

from typing import Any

import torch
from torch import Tensor, nn

from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.students.architecture import Architecture, described
from preceptor.students.choosing import Choice, chosen
from preceptor.students.weights import ModuleWeights
from tests.models.architectures import configuration

IDS = torch.arange(24).view(2, 12)
TOKENS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
PIXELS = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(3))

_VIT: dict[str, Any] = {
    "model_type": "vit",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
}
_ZOO = {"width": 16, "depth": 2, "heads": 2}


def spec(name: str, **said: Any) -> dict[str, Any]:
    """What `load_model` takes for an architecture, with some fields said otherwise."""
    if name == "vit":
        return {"transformers": {**_VIT, **said}, "classes": 3}
    if name == "zoo vit":
        arguments = {**_ZOO, **said}
        return {"zoo": "vit", "classes": 3, "channels": 1, "size": 8, "arguments": arguments}
    return {"causal": {**configuration(name), **said}}


def model(name: str, seed: int = 0, **said: Any) -> TappedModel:
    """In eval mode; every gain and bias is drawn, as none of a fresh model is."""
    torch.manual_seed(seed)
    made = load_model(spec(name, **said)).eval()
    drawn(made, seed)
    return made


def drawn(module: nn.Module, seed: int) -> None:
    """Weights that let what a layer reads be seen in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.3 * noise)


def logits(tapped: TappedModel) -> Tensor:
    """On the same tokens or pixels for all."""
    with torch.no_grad():
        if tapped.causal:
            return tapped.module(**TOKENS).logits
        return tapped(PIXELS).logits


def seen(tapped: TappedModel) -> Architecture:
    """A model as axes."""
    return described(ModuleWeights(tapped))


def every_block(teacher: TappedModel, student: TappedModel) -> list[Choice]:
    """The first blocks, their parts evenly spaced."""
    theirs, own = seen(teacher), seen(student)
    rotary = theirs.family.rotary
    return [
        chosen(theirs.sizes, own.sizes, block, rotary=rotary) for block in range(own.sizes.blocks)
    ]


def parameters(tapped: TappedModel) -> dict[str, Tensor]:
    """By name."""
    return {name: tensor.detach().clone() for name, tensor in tapped.module.named_parameters()}
