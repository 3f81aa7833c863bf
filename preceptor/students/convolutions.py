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

import torch
from torch import nn

from preceptor.models.dry import keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.students.convolution_repair import ConvolutionRepair
from preceptor.students.cut import Channels, Cut
from preceptor.students.networks import network
from preceptor.students.report import Report
from preceptor.types import Inputs, map_tensors


def begin_convolutions(
    student: TappedModel,
    teacher: TappedModel,
    basis: Channels,
    *,
    calibration: Sequence[Inputs] = (),
    repair: bool = False,
    ridge: float = 0.01,
    loss: Callable[[TappedModel], float] | None = None,
) -> Report:
    """Write a convolutional student's weights from its teacher's, in place.

    Args:
        student: drawn at random; of the teacher's family, nowhere wider or deeper.
        teacher: live.
        basis: evenly spaced channels, or those whose norms have the largest gains.
        calibration: images, for the norms' running statistics; a few hundred. The
            teacher's statistics, cut to the student's channels, stay where none are given.
        repair: whether convolutions are fitted to the teacher's on the calibration.
        ridge: how strongly they are held to what they were.
        loss: what to measure before and after; lower is better.

    Errors:
        ModelError: networks that do not fit one another.
    """
    own, theirs = network(student.module), network(teacher.module)
    random_loss = None if loss is None else loss(student)
    cut = Cut(own, theirs, basis)
    origins = tuple(cut.take(carried) for carried in own.tensors)
    repaired = ()
    if repair:
        repaired = ConvolutionRepair(student, teacher, cut, calibration, ridge).run()
    else:
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
        repaired=repaired,
        loss=None if loss is None else loss(student),
        random_loss=random_loss,
    )


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
