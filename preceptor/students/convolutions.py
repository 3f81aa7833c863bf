"""Convolutional students cut out of their teachers: channels evenly spaced, or of largest gain.

Units are taken evenly out of each stage, and of every axis the same channels wherever it is
carried. A norm's running statistics are those of all channels, so with images at hand they are
taken anew.

Zhiqiu Xu et al. "Initializing Models with Larger Ones". ICLR 2024. arXiv:2311.18823 (`select`).
Zhuang Liu, Jianguo Li, Zhiqiang Shen, Gao Huang, Shoumeng Yan, Changshui Zhang. "Learning
Efficient Convolutional Networks through Network Slimming". ICCV 2017. arXiv:1708.06519 (`prune`:
a channel's importance is the size of its norm's gain).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.dry import keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.students.bases import evenly, most
from preceptor.students.choosing import depth_map
from preceptor.students.networks import CLASSES, PIXELS, Carried, Network, Unit, network
from preceptor.students.report import How, Origin, Report
from preceptor.types import Inputs, map_tensors

Channels = Literal["select", "prune"]


def begin_convolutions(
    student: TappedModel,
    teacher: TappedModel,
    basis: Channels,
    *,
    calibration: Sequence[Inputs] = (),
    loss: Callable[[TappedModel], float] | None = None,
) -> Report:
    """Write a convolutional student's weights from its teacher's, in place.

    Args:
        student: drawn at random; of the teacher's family, nowhere wider or deeper.
        teacher: live.
        basis: evenly spaced channels, or those whose norms have the largest gains.
        calibration: images, for the norms' running statistics; a few hundred. The teacher's are
            kept without.
        loss: what to measure before and after; lower is better.

    Errors:
        ModelError: networks that do not fit one another.
    """
    own, theirs = network(student.module), network(teacher.module)
    random_loss = None if loss is None else loss(student)
    cut = _Cut(own, theirs, basis)
    origins = tuple(cut.take(carried) for carried in own.tensors)
    _estimate(student, calibration)
    widths = [max(net.lengths.values()) for net in (theirs, own)]
    return Report(
        basis,
        widths[0],
        widths[1],
        1.0,
        (),
        {},
        origins,
        warnings=tuple(cut.warnings),
        loss=None if loss is None else loss(student),
        random_loss=random_loss,
    )


class _Cut:
    """Two networks, and which of the teacher's channels are kept."""

    def __init__(self, own: Network, theirs: Network, basis: Channels) -> None:
        self._own, self._theirs, self._basis = own, theirs, basis
        self._sources = {(c.unit, c.inside): c for c in theirs.tensors}
        self.warnings: list[str] = []

    def take(self, carried: Carried) -> Origin:
        """One tensor."""
        source = self._sources.get((self._unit(carried.unit), carried.inside))
        if source is None or len(source.axes) != len(carried.axes):
            raise ModelError(
                f"the student's {carried.name!r} was to begin as its teacher's",
                "the teacher has nothing of the kind in that place",
                "Choose a student of its teacher's family.",
            )
        value = source.tensor
        for dim, (own, axis) in enumerate(zip(carried.axes, source.axes, strict=True)):
            if CLASSES in (own, axis) and value.shape[dim] != carried.tensor.shape[dim]:
                self.warnings.append(
                    f"{carried.name} stays random: {carried.tensor.shape[dim]} classes, "
                    f"the teacher has {value.shape[dim]}"
                )
                return Origin(carried.name, "random")
            kept = self._kept(axis, carried.tensor.shape[dim])
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

    def _unit(self, unit: Unit) -> Unit:
        """The teacher's unit that a unit is taken from."""
        kept, there = self._own.units(unit.stage), self._theirs.units(unit.stage)
        if kept > there:
            raise ModelError(
                f"the student has {kept} units in {unit.stage!r}, its teacher {there}",
                "a student that begins inside its teacher is cut out of it",
                "Choose a student that is nowhere deeper, or start it at random.",
            )
        return Unit(unit.stage, depth_map("even", there, kept)[unit.number])

    def _kept(self, axis: str, count: int) -> Tensor:
        """The same channels of an axis, wherever it is carried."""
        axis = self._theirs.axis(axis)
        total = self._theirs.lengths[axis]
        if count > total or (axis == PIXELS and count != total):
            raise ModelError(
                f"the student has {count} channels where its teacher has {total} ({axis})",
                "a student that begins inside its teacher is cut out of it",
                "Choose a student that is nowhere wider, and images of the same channels.",
            )
        gains = [gain.abs().cpu() for gain in self._theirs.gains(axis)]
        if self._basis == "select" or not gains:
            return evenly(total, count)
        return most(torch.stack(gains).sum(0), count)


def _estimate(student: TappedModel, calibration: Sequence[Inputs]) -> None:
    """The norms' running statistics over some images, each batch counting alike."""
    norms = [part for part in student.module.modules() if isinstance(part, nn.BatchNorm2d)]
    if not calibration or not norms:
        return
    device = next(student.parameters()).device
    momenta = [norm.momentum for norm in norms]
    with keeping_modes(student), torch.no_grad():
        student.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None  # pyright: ignore[reportAttributeAccessIssue]
        for inputs in calibration:
            student(map_tensors(inputs, lambda tensor: tensor.to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
