"""Linfeng Zhang, Jiebo Song, Anni Gao, Jingwei Chen, Chenglong Bao, Kaisheng Ma.

"Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self
Distillation". ICCV 2019. arXiv:1905.08094.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import RecipeError
from preceptor.fields import Count, Fraction, NonNegative, Positive
from preceptor.objectives._exits import Bottleneck, require_map, shrunk
from preceptor.objectives._pairs import rows, settled_pairs, spread
from preceptor.objectives.base import LayerKind, Layers, Objective
from preceptor.ops.divergences import forward_kl
from preceptor.ops.maps import squared_difference
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Term, Terms


@final
class Exits(nn.Module):
    """A head after each stage but the deepest. It is trained beside the student, not saved in it.

    Args:
        stages: the student's taps, from the first stage to the deepest.
        channels: of each stage's map.
        size: height and width of the deepest map.
        classes: how many.
        factor: by how much a bottleneck is narrower than the deepest map.
    """

    def __init__(
        self,
        stages: Sequence[str],
        channels: Sequence[int],
        size: Sequence[int],
        classes: int,
        factor: int,
    ) -> None:
        super().__init__()
        self.stages, self.size = tuple(stages), tuple(size)
        deepest = channels[-1]
        self.bottlenecks = nn.ModuleList(Bottleneck(c, deepest, factor) for c in channels[:-1])
        self.classifiers = nn.ModuleList(nn.Linear(deepest, classes) for _ in channels[:-1])

    def exits(self, outputs: Outputs) -> tuple[Float[Tensor, "b v"], ...]:
        """The logits of every early exit, the first stage's first."""
        taps = [outputs.tap(stage) for stage in self.stages[:-1]]
        return tuple(logits for _, logits in self(taps))

    def forward(
        self, taps: Sequence[Float[Tensor, "b _ _ _"]]
    ) -> list[tuple[Float[Tensor, "b c h w"], Float[Tensor, "b v"]]]:
        """Each earlier stage's map in the deepest one's shape, and its logits."""
        answers = []
        for tap, bottleneck, classifier in zip(
            taps, self.bottlenecks, self.classifiers, strict=True
        ):
            assert isinstance(classifier, nn.Linear)
            features = bottleneck(shrunk(tap.to(classifier.weight.dtype), self.size))
            answers.append((features, classifier(features.mean(dim=(2, 3)))))
        return answers


@final
@dataclass(frozen=True)
class BYOT(Objective[Exits]):
    """Sum over early exits i of (1-a) CE_i + a T^2 KL(deepest || i) + lambda |F_i - F_deepest|^2.

    Section 3.2. The deepest exit is the student's own output; it teaches, so it gets no
    gradient from here. Its own cross-entropy is added outside: `CE() + BYOT()` is the paper's
    whole loss. Gradients of the exits run on into the student's stages.

    The squared distance is a mean over the deepest map's C H W elements and over the batch:
    published code sums over both, so that its lambda (1e-6) is B C H W times smaller for the same
    pull; there, the deepest exit's own cross-entropy weighs 1 - a too. Unlike the paper, whose
    exits stride down with convolutions, larger maps are averaged down to the deepest one's size
    first; smaller sides are refused. Bottlenecks normalise by batch statistics while they train:
    one number belongs to one example, but splitting a batch changes those statistics a little.

    The exits never reach the saved student; `aux.exits(outputs)` gives their logits.

    Args:
        layers: the student's stages from the first to the deepest, each paired with itself; "auto"
            finds them.
        alpha: a, the share of the deepest exit against the label; 0.3 in later code.
        temperature: T; 3 in published code.
        feature: lambda.
        factor: by how much a bottleneck is narrower than the deepest map.
    """

    reads: ClassVar[LayerKind | None] = "stages"

    layers: Layers = "auto"
    alpha: Fraction = 0.3
    temperature: Positive = 3.0
    feature: NonNegative = 0.03
    factor: Count = 4

    def needs(self) -> Needs:
        """Labels and the student's own stages; nothing of a teacher."""
        stages = {"auto"} if self.layers == "auto" else {stage for stage, _ in self.layers}
        return Needs(student_taps=frozenset(stages), labels=True, scope="example")

    def auxiliary(self, context: Context) -> Exits:
        """One head an earlier stage."""
        stages = [stage for stage, _ in settled_pairs(self)]
        taps = [context.student.tap(stage) for stage in stages]
        for stage, tap in zip(stages, taps, strict=True):
            require_map(tap, "student", stage)
        size = taps[-1].shape[-2:]
        if len(taps) < 2 or any(t.shape[-2] < size[0] or t.shape[-1] < size[1] for t in taps):
            raise RecipeError(
                f"byot was given the stages {', '.join(stages)} with maps "
                f"{[tuple(tap.shape[-2:]) for tap in taps]}",
                "it needs at least two, none smaller than the deepest, which stands last",
                "Name the student's stages in order.",
            )
        channels = [tap.shape[1] for tap in taps]
        return Exits(stages, channels, size, context.num_classes, self.factor).to(taps[0].device)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: Exits) -> Terms:
        """Three numbers an example, each a sum over the early exits."""
        del teacher
        taps = [rows(student.tap(stage), batch) for stage, _ in settled_pairs(self)]
        deepest = rows(student.logits.detach(), batch)
        labels = batch.labels[batch.mask("all")].clamp_min(0)
        label, soft, feature = [], [], []
        for features, logits in aux(taps[:-1]):
            label.append(F.cross_entropy(logits, labels, reduction="none"))
            divergence = forward_kl(teacher=deepest, student=logits, temperature=self.temperature)
            soft.append(self.temperature**2 * divergence)
            feature.append(squared_difference(features, taps[-1].detach()).mean(dim=(1, 2, 3)))
        return {
            "byot.label": Term(
                _summed(label, batch), over="labelled", per="example", weight=1 - self.alpha
            ),
            "byot.soft": Term(_summed(soft, batch), per="example", weight=self.alpha),
            "byot.feature": Term(_summed(feature, batch), per="example", weight=self.feature),
        }


def _summed(exits: Sequence[Float[Tensor, " n"]], batch: Batch) -> Float[Tensor, " b"]:
    return spread(torch.stack(tuple(exits)).sum(dim=0), batch)
