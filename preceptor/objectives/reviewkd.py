"""Pengguang Chen, Shu Liu, Hengshuang Zhao, Jiaya Jia.

"Distilling Knowledge via Knowledge Review". CVPR 2021. arXiv:2104.09044.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import ModelError
from preceptor.fields import Count
from preceptor.objectives._adapters import (
    BatchNorm,
    added,
    counting_rows,
    kept,
    tapped_maps,
)
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import pyramid_distance
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Term, Terms

Maps = list[Tensor]


@final
@dataclass(frozen=True)
class ReviewKD(Objective[nn.ModuleList]):
    """sum_l HCL(F_t^l, r_l(F_s^l, F_s^deeper)): the student's deeper stages explain the shallower.

    Equation 8: from the deepest stage to the shallowest, attention-based fusion (ABF) mixes a
    student's map with what came from deeper, and a 3x3 convolution compares it with the teacher's
    map; the hierarchical context loss (HCL) is `ops.maps.pyramid_distance`. One number an example,
    added over the levels. Where the last pair are maps, their mean over space is added as the
    deepest level, as in the authors' code. They compare maps before the last ReLU and pool the one
    after it: for that, name such layers, and the classifier's input as the last pair.

    The authors' weights are 0.6 to 8 for CIFAR pairs, reached in 20 epochs:
    `Ramp(end=5, over=20, unit="epochs")`. The fusions normalise over the batch they are given while
    they train, as a student with batch normalisation does: there, micro-batches and processes
    change this term's numbers. Examples that do not count enter those statistics as zeros.

    Args:
        layers: pairs of stage outputs, from shallow to deep; "auto" is every stage.
        width: the most channels of the fused maps, which otherwise have the deepest student map's.
    """

    reads: ClassVar[LayerKind | None] = "stages"

    layers: Layers = "auto"
    width: Count = 512

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def auxiliary(self, context: Context) -> nn.ModuleList:
        """One fusion a level, from deep to shallow."""
        ours, theirs = _levels(self.layers, context.student, context.teacher)
        width = min(self.width, ours[0].shape[1])
        channels = [(o.shape[1], t.shape[1]) for o, t in zip(ours, theirs, strict=True)]
        return nn.ModuleList(
            Fusion(into, width, out, fuse=index > 0) for index, (into, out) in enumerate(channels)
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        """One number an example, added over the levels."""
        rows = counting_rows(batch)
        ours, theirs = _levels(self.layers, student, teacher)
        reviewed = review(aux, [kept(one, rows) for one in ours], theirs)
        targets = [kept(one, rows) for one in theirs]
        distances = [pyramid_distance(r, t) for r, t in zip(reviewed, targets, strict=True)]
        return {"reviewkd": Term(added(distances), per="example")}


@final
class Fusion(nn.Module):
    """Attention-based fusion of a map with what came from deeper.

    Args:
        into, width, out: channels of the student's map, of the fused map, of the teacher's map.
        fuse: whether anything comes from deeper.
    """

    def __init__(self, into: int, width: int, out: int, *, fuse: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(into, width, 1, bias=False), BatchNorm(width))
        self.leave = nn.Sequential(nn.Conv2d(width, out, 3, padding=1, bias=False), BatchNorm(out))
        self.attend = nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid()) if fuse else None
        for convolution in (self.enter[0], self.leave[0]):
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(
        self,
        features: Float[Tensor, "b c h w"],
        deeper: Float[Tensor, "b k h2 w2"] | None,
        size: Sequence[int],
    ) -> tuple[Float[Tensor, "b d h3 w3"], Float[Tensor, "b k h3 w3"]]:
        """What is compared with the teacher's map of `size`, and what is handed to shallower."""
        fused = self.enter(features)
        if self.attend is not None and deeper is not None:
            deeper = _resized(deeper, fused.shape[2:])
            share = self.attend(torch.cat([fused, deeper], dim=1))  # [B, 2, H, W]
            fused = fused * share[:, :1] + deeper * share[:, 1:]
        fused = _resized(fused, size)
        return self.leave(fused), fused


def review(fusions: nn.ModuleList, ours: Maps, theirs: Maps) -> Maps:
    """The student's maps, deepest first, each fused with all deeper ones."""
    compared: Maps = []
    deeper: Tensor | None = None
    for fusion, features, target in zip(fusions, ours, theirs, strict=True):
        weight = next(fusion.parameters())
        answer, deeper = fusion(features.to(weight.dtype), deeper, target.shape[2:])
        compared.append(answer)
    return compared


def _resized(features: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest neighbour, as the authors resize."""
    same = tuple(features.shape[2:]) == tuple(size)
    return features if same else F.interpolate(features, size=tuple(size), mode="nearest")


def _levels(layers: Layers, student: Outputs, teacher: Signal) -> tuple[Maps, Maps]:
    """Both nets' maps from deep to shallow, with the pooled deepest ones first."""
    pairs = list(tapped_maps(layers, student, teacher))
    ours, theirs = [pair.student for pair in pairs], [pair.teacher for pair in pairs]
    sizes = [one.shape[2] * one.shape[3] for one in ours]
    if sizes != sorted(sizes, reverse=True):
        raise ModelError(
            f"the student's maps have {', '.join(map(str, sizes))} positions",
            "deeper maps are enlarged to shallower ones, so none may be larger than the one before",
            "List `layers` from shallow to deep.",
        )
    if sizes[-1] > 1:
        ours.append(ours[-1].mean(dim=(2, 3), keepdim=True))
        theirs.append(theirs[-1].mean(dim=(2, 3), keepdim=True))
    return ours[::-1], theirs[::-1]
