"""Parameters, gradients and optimizer state spread over the processes (FSDP2).

Each layer is one group, gathered while it computes, and everything around them (embeddings, last
norm, head) the root's group, which stays whole from the forward pass to the end of the backward
pass: so a head that is read after its backbone ran is a plain tensor, and the gradient that the
projection gives it is reduced with the others. A teacher has no backward pass: its root group stays
whole from its first answer on.

The root is the model itself and not the module around it, so that generation, the base of a
student with adapters and evaluation may call the model on their own.
"""

import copy
import os
from collections.abc import Mapping
from typing import Any, final

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from preceptor.errors import RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Sum
from preceptor.objectives.schedules import Auto
from preceptor.train.plan import Plan


@final
class Sharded:
    """A model whose parameters are spread over all processes, in place.

    They become other objects: whoever holds one asks the model for it again.
    """

    def __init__(self, model: TappedModel) -> None:
        layers = _layers(model.module)
        if not layers:
            raise RecipeError(
                f"sharded: true, with {type(model.module).__name__}",
                "it has no row of layers that could be gathered one at a time",
                "Leave `sharded` out.",
            )
        trains = [p.requires_grad for p in model.parameters()]
        if any(trains) and not any(p.requires_grad for part in layers for p in part.parameters()):
            raise RecipeError(
                "sharded: true, with no trainable parameter inside any layer",
                "gradients are exchanged when a layer's backward pass ends",
                "Train some of the layers, or leave `sharded` out.",
            )
        self.model = model
        # What was sharded cannot be copied: this has the modules and buffers, and no weights.
        self._skeleton = _copied(
            model, {n: torch.empty_like(p, device="meta") for n, p in model.named_parameters()}
        )
        for layer in layers:
            fully_shard(layer)
        fully_shard(model.module)

    def sync(self, last: bool) -> None:
        """Exchange gradients in the step's last micro-batch alone."""
        root: Any = self.model.module
        root.set_requires_gradient_sync(last)

    def gathered(self) -> TappedModel:
        """A twin with whole parameters, on the CPU; all processes must call this together."""
        own = {n: p.detach() for n, p in self.model.named_parameters()}
        return _copied(self._skeleton, {n: whole(p).cpu() for n, p in own.items()})


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's parameters are spread over the processes."""
    return isinstance(getattr(model, "module", None), FSDPModule)


def whole(tensor: Tensor) -> Tensor:
    """The parts of all processes put together, where a tensor is spread; all must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, spread as `like` is; itself where that is not."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    # Every process has the whole; nothing is sent.
    moved = tensor.to(like.device)
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)


def require_sharding(
    plan: Plan,
    objective: Sum,
    *,
    processes: int,
    launched: DistributedType,
    members: int,
    learns: bool,
) -> None:
    """Refuse, in words, sharding that was asked for and cannot be had.

    Accelerate's own sharding is refused too: on a CPU it is ignored without a word.
    """
    elsewhere = launched == DistributedType.FSDP
    if elsewhere or os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes"):
        raise RecipeError(
            "Accelerate was configured to shard (FSDP)",
            "sharding is the plan's to say: this loop does it itself, on every device alike",
            "Set `sharded: true` in the plan, and start with torchrun or `accelerate launch` "
            "without FSDP.",
        )
    if not plan.sharded:
        return
    methods = zip(objective.labels(), objective.members, strict=True)
    own = [label for label, member in methods if member.has_auxiliary()]
    found = any(isinstance(member.weight, Auto) for member in objective.members)
    refused = {
        "one process holds everything that several would share": processes == 1,
        "a cohort's members are computed outside one another's passes": members > 1,
        "fp16 scales gradients by a number that would differ between parts": (
            plan.precision == "fp16"
        ),
        f"{', '.join(own)} trains modules of its own, which are not spread": bool(own),
        "a weight found by the loop needs each method's gradient on whole parameters": found,
        "the teacher moves with the student, whose weights it would read whole": learns,
    }
    for why, holds in refused.items():
        if holds:
            raise RecipeError(
                "sharded: true",
                why,
                "Leave `sharded` out, or change that (torchrun starts several).",
            )


def _copied(model: TappedModel, parameters: Mapping[str, Tensor]) -> TappedModel:
    """A copy with other tensors as its parameters; what is tied stays tied."""
    memo: dict[int, Any] = {
        id(own): nn.Parameter(parameters[name], own.requires_grad)
        for name, own in model.named_parameters()
    }
    return copy.deepcopy(model, memo)


def _layers(module: nn.Module) -> list[nn.Module]:
    """The members of the outermost lists of modules."""
    found: list[nn.Module] = []
    outer: list[str] = []
    for name, part in module.named_modules():
        if isinstance(part, nn.ModuleList) and not any(name.startswith(f"{n}.") for n in outer):
            outer.append(name)
            found += [layer for layer in part if next(layer.parameters(), None) is not None]
    return found
