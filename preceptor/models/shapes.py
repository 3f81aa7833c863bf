"""What a model does in one pass: every module's output shape, parameters and operations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from preceptor.models.dry import undisturbed
from preceptor.models.tapped import TappedModel
from preceptor.types import Inputs, Outputs


@dataclass(frozen=True)
class Layer:
    """One module as a pass found it.

    Args:
        name: as taps name it; "" is the whole model.
        type: the module's class.
        shape: of its output, or of the first tensor in it; empty where it returned none.
        parameters: in it and below it.
        calls: how often the pass called it; the shape is the last call's.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    calls: int


@dataclass
class Visit:
    """A module's last call in a pass; `entered` and `left` order the calls in time."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    entered: int
    left: int
    calls: int


def visits(model: TappedModel, inputs: Inputs) -> tuple[Outputs, tuple[Visit, ...]]:
    """One pass in eval mode without a trace, and every module it called, first entered first."""
    seen: dict[str, Visit] = {}
    handles = []
    clock = iter(range(10**9))
    for name, module in model.module.named_modules():
        visit = Visit(name, module, {}, {}, 0, 0, 0)

        def enter(
            module: nn.Module, args: Any, kwargs: Any, visit: Visit = visit, name: str = name
        ) -> None:
            del module
            seen[name] = visit
            visit.inputs = {**_tensors(args), **_tensors(kwargs)}
            visit.entered = next(clock)

        def leave(module: nn.Module, args: Any, output: Any, visit: Visit = visit) -> None:
            del module, args
            visit.outputs, visit.left = _tensors(output), next(clock)
            visit.calls += 1

        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        with undisturbed(model):
            model.eval()
            outputs = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, tuple(sorted(seen.values(), key=lambda visit: visit.entered))


def layers(model: TappedModel, inputs: Inputs) -> tuple[Layer, ...]:
    """Every module that a pass calls, in the order of the calls."""
    return tuple(
        Layer(
            visit.name,
            type(visit.module).__name__,
            next((tuple(tensor.shape) for tensor in visit.outputs.values()), ()),
            parameters(visit.module),
            visit.calls,
        )
        for visit in visits(model, inputs)[1]
    )


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns; shared ones count once.

    >>> parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def flops(model: TappedModel, inputs: Inputs) -> int:
    """Floating-point operations of one pass over `inputs`, as torch counts them.

    A multiplication and an addition are two operations; matrix products, convolutions and
    attention count, element-wise operations do not.
    """
    with undisturbed(model), FlopCounterMode(display=False) as counter:
        model.eval()
        model(inputs)
    return counter.get_total_flops()


def _tensors(value: Any) -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {"": value}
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = tuple(value.items())
    elif isinstance(value, list | tuple):
        items = tuple(enumerate(value))
    return {str(name): item for name, item in items if isinstance(item, Tensor)}
