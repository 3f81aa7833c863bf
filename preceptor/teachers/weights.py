"""A model's weights: copied, taken over, and named by a hash."""

import hashlib
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.tapped import TappedModel
from preceptor.types import at_least_float32


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter (a tied one once) and every buffer, by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def frozen_copy(student: TappedModel) -> TappedModel:
    """The student as it is now, in eval mode, without gradients and taps, its halves widened.

    Averages move by thousandths, which float16 and bfloat16 round away.
    """
    twin = deepcopy(student).reading(frozenset()).eval().requires_grad_(False)
    for parameter in twin.parameters():
        parameter.grad = None
        parameter.data = at_least_float32(parameter.data)
    for buffer in twin.buffers():
        buffer.data = at_least_float32(buffer.data) if buffer.is_floating_point() else buffer.data
    return twin


def counterparts(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[Tensor]:
    """The tensor of the same name and shape for each of `own`, in its order."""
    for name, tensor in own.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            there = tuple(tensors[name].shape) if name in tensors else "not there"
            raise ModelError(
                f"the weight {name!r} is {there}, here {tuple(tensor.shape)}",
                "a teacher made of a student's past follows that one student",
                "Hand `learn` the unwrapped student that the teacher was made from.",
            )
    return [tensors[name].detach() for name in own]


@torch.no_grad()
def take_over(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies the tensors of the same names into a model's parameters and buffers."""
    own = named_tensors(model)
    for tensor, theirs in zip(own.values(), counterparts(tensors, own), strict=True):
        tensor.copy_(theirs)


def fingerprint(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """The sha256 of all names, dtypes, shapes and bytes; the same on every device.

    Of a module all parameters and buffers count, input normalisation included. A name for one
    teacher: two models answer alike if theirs is the same and so is their code.

    >>> fingerprint({"w": torch.zeros(2)}) == fingerprint({"w": torch.zeros(2)})
    True
    >>> fingerprint({"w": torch.zeros(2)}) == fingerprint({"w": torch.zeros(2, 1)})
    False
    """
    tensors = named_tensors(weights) if isinstance(weights, nn.Module) else weights
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()
