"""Which of a convolutional teacher's units and channels a student keeps."""

from typing import Literal, final

import torch
from torch import Tensor

from preceptor.errors import ModelError
from preceptor.students.bases import evenly, most
from preceptor.students.choosing import depth_map
from preceptor.students.networks import CLASSES, PIXELS, Carried, Network, Unit
from preceptor.students.report import How, Origin

Channels = Literal["select", "prune"]


@final
class Cut:
    """Two networks, and which of the teacher's channels are kept."""

    def __init__(self, own: Network, theirs: Network, basis: Channels) -> None:
        self.own, self.theirs, self._basis = own, theirs, basis
        self._sources = {(c.unit, c.inside): c for c in theirs.tensors}
        self.warnings: list[str] = []

    def take(self, carried: Carried) -> Origin:
        """One tensor."""
        source, _ = self.source(carried)
        value = source.tensor
        for dim, (own, axis) in enumerate(zip(carried.axes, source.axes, strict=True)):
            if CLASSES in (own, axis) and value.shape[dim] != carried.tensor.shape[dim]:
                self.warnings.append(
                    f"{carried.name} stays random: {carried.tensor.shape[dim]} classes, "
                    f"the teacher has {value.shape[dim]}"
                )
                return Origin(carried.name, "random")
            kept = self.kept(axis, carried.tensor.shape[dim])
            value = value.index_select(dim, kept.to(value.device))
        if value.shape != carried.tensor.shape:
            raise ModelError(
                f"the student's {carried.name!r} is {list(carried.tensor.shape)}",
                f"the teacher's would be {list(value.shape)}",
                "Choose a student with kernels of its teacher's size.",
            )
        carried.tensor.copy_(value)
        how: How = "copied" if value.shape == source.tensor.shape else "selected"
        return Origin(carried.name, how, source.name)

    def source(self, carried: Carried) -> tuple[Carried, Carried]:
        """The teacher's tensor that one is taken from, and the same of the last unit that this
        one stands for."""
        of, until = self._units(carried.unit)
        source = self._sources.get((of, carried.inside))
        last = self._sources.get((until, carried.inside), source)
        if source is None or last is None or len(source.axes) != len(carried.axes):
            raise ModelError(
                f"the student's {carried.name!r} was to begin as its teacher's",
                "the teacher has nothing of the kind in that place",
                "Choose a student of its teacher's family.",
            )
        return source, last

    def _units(self, unit: Unit) -> tuple[Unit, Unit]:
        """The teacher's unit that a unit is taken from, and the last that it stands for."""
        kept, there = self.own.units(unit.stage), self.theirs.units(unit.stage)
        if kept > there:
            raise ModelError(
                f"the student has {kept} units in {unit.stage!r}, its teacher {there}",
                "a student that begins inside its teacher is cut out of it",
                "Choose a student that is nowhere deeper, or start it at random.",
            )
        depth = (*depth_map("even", there, kept), there)
        return Unit(unit.stage, depth[unit.number]), Unit(unit.stage, depth[unit.number + 1] - 1)

    def kept(self, axis: str, count: int) -> Tensor:
        """The same channels of an axis, wherever it is carried."""
        axis = self.theirs.axis(axis)
        total = self.theirs.lengths[axis]
        if count > total or (axis == PIXELS and count != total):
            raise ModelError(
                f"the student has {count} channels where its teacher has {total} ({axis})",
                "a student that begins inside its teacher is cut out of it",
                "Choose a student that is nowhere wider, and images of the same channels.",
            )
        gains = [gain.abs().cpu() for gain in self.theirs.gains(axis)]
        if self._basis == "select" or not gains:
            return evenly(total, count)
        return most(torch.stack(gains).sum(0), count)
