"""Defang Chen, Jian-Ping Mei, Hailin Zhang, Can Wang, Yan Feng, Chun Chen.

"Knowledge Distillation with the Reused Teacher Classifier". CVPR 2022. arXiv:2203.14001.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.fields import Count
from preceptor.objectives._exits import Bottleneck, require_map, require_reads, shrunk
from preceptor.objectives._pairs import only_pair, rows, spread
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import squared_difference
from preceptor.types import Batch, Context, Head, Needs, Outputs, Signal, Term, Terms


@final
class Frozen(nn.Module):
    """A linear classifier whose numbers are buffers, not parameters: saved and never trained."""

    weight: Float[Tensor, "v d"]
    bias: Float[Tensor, " v"] | None

    def __init__(self, width: int, classes: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes) if bias else None)

    def take_over(self, head: Head) -> None:
        """Becomes a copy of a classifier."""
        self.weight.copy_(head.weight.detach())
        if self.bias is not None and head.bias is not None:
            self.bias.copy_(head.bias.detach())

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """Logits."""
        return F.linear(features, self.weight, self.bias)


@final
class Exit(nn.Module):
    """A student's last map through a projector into the teacher's classifier.

    Args:
        student_channels, teacher_channels: of the two last maps.
        size: height and width of the teacher's map; larger student maps are averaged down to it.
        factor: by how much the projector is narrower than the teacher's map.
        classes: of the teacher's classifier.
        bias: whether that classifier has one.
    """

    def __init__(
        self,
        *,
        student_channels: int,
        teacher_channels: int,
        size: Sequence[int],
        factor: int,
        classes: int,
        bias: bool,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "student_channels": student_channels,
            "teacher_channels": teacher_channels,
            "size": list(size),
            "factor": factor,
            "classes": classes,
            "bias": bias,
        }
        self.projector = Bottleneck(student_channels, teacher_channels, factor)
        self.classifier = Frozen(teacher_channels, classes, bias)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b v"]:
        """Logits."""
        return self.classified(self.projected(features))

    def projected(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """The student's map as the teacher's."""
        features = shrunk(features.to(self.classifier.weight.dtype), self.arguments["size"])
        return self.projector(features)

    def classified(self, features: Float[Tensor, "b d p q"]) -> Float[Tensor, "b v"]:
        """A teacher-like map, averaged over space, through the teacher's classifier."""
        return self.classifier(features.mean(dim=(2, 3)))


@final
class Reused(nn.Module):
    """What SimKD trains beside the student, and then leaves in it."""

    def __init__(self, exit: Exit, tap: str) -> None:
        super().__init__()
        self.exit, self.tap = exit, tap

    def graft(self, student: nn.Module) -> nn.Module:
        """The student that classifies by the projector and the teacher's classifier.

        `student` is a `models.tapped.TappedModel`; its own classifier is not used any more.
        """
        spec = {
            "class": f"{__name__}:Exit",
            "arguments": self.exit.arguments,
            "head": "classifier",
        }
        return cast("Any", student).grafted(self.exit, self.tap, spec)


@final
@dataclass(frozen=True)
class SimKD(Objective[Reused]):
    """|F_t - P(F_s)|^2, a mean over the map: nothing else is trained, neither labels nor logits.

    Section 3. P is a bottleneck (1x1, 3x3, 1x1), and where the two maps differ in size the larger
    is averaged down. The finished student classifies with P and the teacher's own classifier, so
    both are saved with it and their cost counts.

    P normalises by batch statistics while it trains, like most students do themselves: one number
    belongs to one example, but splitting a batch changes those statistics a little. Masked
    examples leave before P and enter no statistic.

    Args:
        layers: one pair; "auto" is the last map before pooling.
        factor: by how much P is narrower than the teacher's map; 2 is the paper's, 4 and 8 cheaper.
    """

    reads: ClassVar[LayerKind | None] = "last_map"

    layers: Layers = "auto"
    factor: Count = 2

    def needs(self) -> Needs:
        """One map of each, and the teacher's classifier."""
        return pair_needs(self.layers, Needs(teacher_head=True, scope="example"))

    def auxiliary(self, context: Context) -> Reused:
        """The projector, and a copy of the teacher's classifier."""
        ours, theirs = only_pair(self)
        s, t, head = context.student.tap(ours), context.teacher.tap(theirs), context.teacher.head
        require_map(s, "student", ours)
        require_map(t, "teacher", theirs)
        require_reads(t.shape[1], head.weight.shape[1], "teacher", theirs)
        exit = Exit(
            student_channels=s.shape[1],
            teacher_channels=t.shape[1],
            size=t.shape[-2:],
            factor=self.factor,
            classes=len(head.weight),
            bias=head.bias is not None,
        ).to(s.device)
        exit.classifier.take_over(head)
        return Reused(exit, ours)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: Reused) -> Terms:
        """One number an example."""
        ours, theirs = only_pair(self)
        target = rows(teacher.tap(theirs).detach(), batch)
        projected = aux.exit.projected(rows(student.tap(ours), batch))
        target = shrunk(target, projected.shape[-2:])
        losses = squared_difference(projected, target).mean(dim=(1, 2, 3))
        return {"simkd": Term(spread(losses, batch), per="example")}
