"""Convolutions fitted anew, in closed form, to what the teacher's give on the same images.

Layers are taken in order. A is what a convolution sees of the student's own maps, a row a place;
it is fitted, with the affine map of the norm behind it, to what the teacher shows there in the
channels that are kept: behind the norm, or where a block ends the sum with its shortcut, less the
student's shortcut. A unit that stands for several is fitted to where the last of them ends. The
head is fitted to the teacher's logits.

Yihui He, Xiangyu Zhang, Jian Sun. "Channel Pruning for Accelerating Very Deep Neural Networks".
ICCV 2017. arXiv:1707.06168, section 3.1 (reconstruction; channels are chosen otherwise here).
"""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.models.tapped import TappedModel
from preceptor.models.zoo.resnet import Block as ResidualBlock
from preceptor.models.zoo.wrn import Block as WideBlock
from preceptor.students.cut import Cut
from preceptor.students.networks import CLASSES, Carried
from preceptor.students.repair import Fit
from preceptor.students.report import Repaired
from preceptor.students.streams import shown
from preceptor.types import Inputs

_LAST = ".body.3"
"""A block's last convolution, whose output is added to the shortcut's."""

_PLACES = 64
"""Places of a map that are looked at, of each image."""


@final
class ConvolutionRepair:
    """A student that has been cut out of its teacher, and the images it is fitted on."""

    def __init__(
        self,
        student: TappedModel,
        teacher: TappedModel,
        cut: Cut,
        calibration: Sequence[Inputs],
        ridge: float,
    ) -> None:
        self._student, self._teacher, self._cut = student, teacher, cut
        self._calibration, self._ridge = tuple(calibration), ridge

    def run(self) -> tuple[Repaired, ...]:
        """Fit every convolution and the head, in place."""
        repaired = []
        with torch.no_grad():
            for carried in self._cut.own.tensors:
                if carried.tensor.dim() == 4:
                    repaired.append(self._convolution(carried))
                elif len(carried.axes) == 2 and carried.axes[0] == CLASSES:
                    repaired += self._head(carried)
        return tuple(repaired)

    def _convolution(self, carried: Carried) -> Repaired:
        name = carried.name.removesuffix(".weight")
        layer = self._student.module.get_submodule(name)
        assert isinstance(layer, nn.Conv2d), "four dimensions are a convolution's"
        behind = _norm_behind(self._student.module, name)
        aim, less = self._taps(carried, name, behind is not None)
        source, _ = self._cut.source(carried)
        kept = self._cut.kept(source.axes[0], layer.out_channels)
        start = _folded(layer, behind)
        fit = Fit.of(start.shape[1], start.shape[0])
        sampled: list[Tensor] = []
        for inputs in self._calibration:
            own = shown(self._student, [f"{name}:input", *less], inputs)
            target = shown(self._teacher, [aim], inputs)[aim].cpu()[:, kept]
            for tap in less:
                target = target - own[tap].cpu()
            seen = _seen(layer, own[f"{name}:input"].cpu())
            sampled.append(seen)
            ones = torch.ones(len(seen), start.shape[1] - seen.shape[1])
            fit.add(torch.cat([seen, ones], 1), _rows(target))
        free = int(behind is not None)
        solved = fit.solved(start, self._ridge, free=free)
        _write(layer, behind, solved, sampled)
        return Repaired(name, fit.error(start), fit.error(solved))

    def _taps(self, carried: Carried, name: str, normed: bool) -> tuple[str, list[str]]:
        """The teacher's tap to lead to, and the student's to be taken from it."""
        source, last = (found.name.removesuffix(".weight") for found in self._cut.source(carried))
        block = name.removesuffix(_LAST)
        inside = self._student.module.get_submodule(block) if name.endswith(_LAST) else None
        if isinstance(inside, ResidualBlock):
            return f"{last.removesuffix(_LAST)}.relu:input", [f"{block}.shortcut"]
        if isinstance(inside, WideBlock):
            past = f"{block}:input" if inside.shortcut is None else f"{block}.shortcut"
            return last.removesuffix(_LAST), [past]
        in_block = ".body." in name or ".shortcut" in name
        own = source if in_block else last
        return (_next(own) if normed else own), []

    def _head(self, carried: Carried) -> list[Repaired]:
        name = carried.name.removesuffix(".weight")
        layer = self._student.module.get_submodule(name)
        source, _ = self._cut.source(carried)
        assert isinstance(layer, nn.Linear), "a head is a linear layer"
        if source.tensor.shape[0] != layer.out_features:
            return []
        start = torch.cat([layer.weight, layer.bias[:, None]], 1).double().cpu()
        fit = Fit.of(start.shape[1], start.shape[0])
        for inputs in self._calibration:
            seen = shown(self._student, [f"{name}:input"], inputs)[f"{name}:input"].cpu()
            target = shown(self._teacher, [source.name.removesuffix(".weight")], inputs)
            ones = torch.ones(len(seen), 1)
            fit.add(torch.cat([seen, ones], 1), next(iter(target.values())).cpu())
        solved = fit.solved(start, self._ridge, free=1)
        layer.weight.copy_(solved[:, :-1])
        layer.bias.copy_(solved[:, -1])
        return [Repaired(name, fit.error(start), fit.error(solved))]


def _next(name: str) -> str:
    """The module after one in a row."""
    row, _, number = name.rpartition(".")
    return f"{row}.{int(number) + 1}"


def _norm_behind(module: nn.Module, name: str) -> nn.BatchNorm2d | None:
    """The norm that follows a convolution in its row, where one does."""
    names = dict(module.named_modules())
    row = names[name.rpartition(".")[0]]
    behind = names.get(_next(name)) if isinstance(row, nn.Sequential) and _in_row(name) else None
    return behind if isinstance(behind, nn.BatchNorm2d) else None


def _in_row(name: str) -> bool:
    return name.rpartition(".")[2].isdigit()


def _seen(layer: nn.Conv2d, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "n p"]:
    """What a convolution sees at each place: its inputs under the kernel."""
    options = {"kernel_size": layer.kernel_size, "stride": layer.stride}
    columns = F.unfold(maps, dilation=layer.dilation, padding=layer.padding, **options)  # pyright: ignore
    return columns[..., :: _step(columns.shape[-1])].mT.flatten(0, 1)


def _rows(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "n c"]:
    places = maps.flatten(2)
    return places[..., :: _step(places.shape[-1])].mT.flatten(0, 1)


def _step(places: int) -> int:
    # Odd, so that it does not always meet the same column of an even map.
    step = max(1, places // _PLACES)
    return step + (step > 1 and step % 2 == 0)


def _folded(layer: nn.Conv2d, behind: nn.BatchNorm2d | None) -> Float[Tensor, "c q"]:
    """A convolution with its norm's affine map: weights, and as the last column a bias."""
    weight = layer.weight.flatten(1).double().cpu()
    if behind is None:
        return weight
    mean, var = behind.running_mean, behind.running_var
    assert mean is not None, "a norm of the zoo has running statistics"
    assert var is not None, "a norm of the zoo has running statistics"
    scale = (behind.weight / (var + behind.eps).sqrt()).double().cpu()
    bias = torch.zeros(len(weight)).double() if layer.bias is None else layer.bias.double().cpu()
    shift = behind.bias.double().cpu() + (bias - mean.double().cpu()) * scale
    return torch.cat([weight * scale[:, None], shift[:, None]], 1)


def _write(
    layer: nn.Conv2d, behind: nn.BatchNorm2d | None, solved: Tensor, sampled: Sequence[Tensor]
) -> None:
    """A solution as a convolution of the size that it had, and a norm with its own statistics."""
    if behind is None:
        layer.weight.copy_(solved.view(layer.weight.shape))
        return
    weight, shift = solved[:, :-1], solved[:, -1]
    before = layer.weight.flatten(1).double().cpu().norm(dim=1)
    size = (before / weight.norm(dim=1).clamp_min(1e-12)).clamp_min(1e-12)
    weight = weight * size[:, None]
    made = torch.cat([seen.double() @ weight.T for seen in sampled])
    mean, var = made.mean(0), made.var(0)
    layer.weight.copy_(weight.view(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.zero_()
    assert behind.running_mean is not None, "a norm of the zoo has running statistics"
    assert behind.running_var is not None, "a norm of the zoo has running statistics"
    behind.running_mean.copy_(mean)
    behind.running_var.copy_(var)
    behind.weight.copy_((var + behind.eps).sqrt() / size)
    behind.bias.copy_(shift + mean / size)
