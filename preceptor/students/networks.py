"""A convolutional network as axes: which channels each of its tensors carries.

A convolution makes an axis of its own. What keeps channels apart (norms, ReLU, pooling) passes it
on, and where a residual adds two tensors their axes are one. So an axis is named by a convolution
that makes it, and selecting or permuting its channels in every tensor that carries it is exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.zoo.resnet import Block as ResidualBlock
from preceptor.models.zoo.wrn import Block as WideBlock

_PASSING = (
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
)
PIXELS, CLASSES = "pixels", "classes"
"""The two ends, which are taken whole."""


@dataclass(frozen=True)
class Unit:
    """A part of a network that may be left out of a smaller one: a block, or a convolution with
    its norm. `stage` and `number` say where it stands; parts without a stage stand alone."""

    stage: str
    number: int


@dataclass(frozen=True)
class Carried:
    """A tensor, the axes of its first dimensions, its unit and its name inside it."""

    tensor: Tensor
    name: str
    axes: tuple[str, ...]
    unit: Unit
    inside: str


@final
@dataclass
class Network:
    """A network of the zoo as axes.

    Args:
        tensors: every parameter and running statistic, in order.
        norms: the norms' gains, by axis.
        lengths: of each axis.
    """

    tensors: list[Carried] = field(default_factory=list)
    lengths: dict[str, int] = field(default_factory=dict)
    _same: dict[str, str] = field(default_factory=dict)
    _unit: Unit = Unit("", 0)
    _start: str = ""

    def axis(self, name: str) -> str:
        """The one name of an axis that residuals have made one."""
        while name in self._same:
            name = self._same[name]
        return name

    def gains(self, axis: str) -> Iterator[Tensor]:
        """The gains of the norms on an axis."""
        for carried in self.tensors:
            alone = len(carried.axes) == 1 and carried.name.endswith(".weight")
            if alone and self.axis(carried.axes[0]) == axis:
                yield carried.tensor

    def units(self, stage: str) -> int:
        """How many units a stage has."""
        return 1 + max((c.unit.number for c in self.tensors if c.unit.stage == stage), default=-1)

    def walk(self, module: nn.Module, name: str, axis: str) -> str:
        """The axis of what a module returns, given that of what it takes in."""
        if isinstance(module, _PASSING):
            return axis
        if isinstance(module, nn.Sequential):
            for child, part in module.named_children():
                axis = self._child(part, f"{name}.{child}".lstrip("."), axis)
            return axis
        if isinstance(module, nn.BatchNorm2d):
            self._add(module, name, (axis,))
            return axis
        if isinstance(module, nn.Conv2d | nn.Linear):
            return self._weighted(module, name, axis)
        if isinstance(module, ResidualBlock):
            # The shortcut first: what is fitted behind it needs it as it will be.
            kept = self.walk(module.shortcut, f"{name}.shortcut", axis)
            return self._added(self.walk(module.body, f"{name}.body", axis), kept)
        if isinstance(module, WideBlock):
            return self._wide(module, name, axis)
        raise _unknown(name, f"it is a {type(module).__name__}")

    def _child(self, part: nn.Module, name: str, axis: str) -> str:
        """A child of a row: in a stage it is a unit, or with a convolution one begins."""
        stage = name.split(".")[0]
        inside_stage = stage.startswith("stage") and name.count(".") == 1
        if inside_stage and isinstance(part, nn.Conv2d | nn.Sequential | ResidualBlock | WideBlock):
            self._unit, self._start = Unit(stage, self.units(stage)), name
        elif "." not in name:
            self._unit, self._start = Unit(name, 0), name
        return self.walk(part, name, axis)

    def _wide(self, block: WideBlock, name: str, axis: str) -> str:
        active = self.walk(block.enter, f"{name}.enter", axis)
        kept = active
        if block.shortcut is not None:
            kept = self.walk(block.shortcut, f"{name}.shortcut", active)
        return self._added(self.walk(block.body, f"{name}.body", active), kept)

    def _weighted(self, module: nn.Conv2d | nn.Linear, name: str, axis: str) -> str:
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            raise _unknown(name, f"its channels are convolved in {module.groups} groups")
        made = CLASSES if isinstance(module, nn.Linear) else name
        self.lengths[made] = module.weight.shape[0]
        self.lengths.setdefault(axis, module.weight.shape[1])
        self._add(module, name, (made, axis))
        return made

    def _added(self, one: str, other: str) -> str:
        one, other = self.axis(one), self.axis(other)
        if one != other:
            self._same[one] = other
        return other

    def _add(self, module: nn.Module, name: str, axes: tuple[str, ...]) -> None:
        # A unit's convolution and norm stand beside one another in a plain row.
        inside = name.removeprefix(self._start) if name.startswith(self._start) else ""
        kind = type(module).__name__
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for what, tensor in state.items():
            carried = axes if what == "weight" else axes[:1]
            where = f"{inside or kind}.{what}"
            own = () if tensor.dim() == 0 else carried
            self.tensors.append(Carried(tensor.data, f"{name}.{what}", own, self._unit, where))


def network(module: nn.Module) -> Network:
    """A plain, VGG, residual or wide residual network of the zoo as axes.

    Errors:
        ModelError: a part whose channels cannot be followed.
    """
    found = Network()
    found.walk(module, "", PIXELS)
    return found


def is_network(module: nn.Module) -> bool:
    """Whether a module is a row of convolutions, and no transformer."""
    return isinstance(module, nn.Sequential) and any(
        isinstance(part, nn.Conv2d) for part in module.modules()
    )


def _unknown(name: str, why: str) -> ModelError:
    return ModelError(
        f"{f'the channels of {name!r}' if name else 'channels'} were to be followed through a "
        "convolutional network",
        f"{why}, and which of them belong together is not written down",
        "Begin at random, or use the zoo's cnn, vgg, resnet or wrn.",
    )
