"""Ziyao Guo, Haonan Yan, Hui Li, Xiaodong Lin.

"Class Attention Transfer Based Knowledge Distillation". CVPR 2023. arXiv:2304.12777.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import ModelError
from preceptor.fields import Count
from preceptor.objectives._exits import require_map, require_reads
from preceptor.objectives._pairs import only_pair, rows, spread
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import pooled
from preceptor.ops.relations import unit
from preceptor.types import Batch, Head, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class CATKD(Objective[nn.Module]):
    """|norm(pool(CAM_t)) - norm(pool(CAM_s))|^2, a mean over classes and places.

    Section 3, with class activation maps CAM_k = sum_c w_kc F_c of the last map F and the
    classifier's weights w: averaged over space they are the logits without their bias, which has
    no place and is left out on both sides. Maps are averaged to a small square, then each class's
    is divided by its length. The gradient also reaches the student's classifier.

    Weights in the paper run from 0.7 to 600; 400 is its default. The authors' rule is that the
    weighted term should lie between 1 and 50 after the first epoch; `weight: auto` needs no rule.

    Args:
        layers: one pair; "auto" is the last map before pooling, which the classifier must read.
        resolution: of the pooled maps; 2, or 4 for ShuffleNets.
        normalize: whether each class's map is divided by its length. The authors turn it off for
            teachers and students of one family, and then take weights from 0.7 to 15.
    """

    reads: ClassVar[LayerKind | None] = "last_map"

    layers: Layers = "auto"
    resolution: Count = 2
    normalize: bool = True

    def needs(self) -> Needs:
        """One map and the classifier of each."""
        return pair_needs(self.layers, Needs(student_head=True, teacher_head=True, scope="example"))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One number an example."""
        del aux
        ours, theirs = only_pair(self)
        require_reading(student.tap(ours), student.head, "student", ours)
        require_reading(teacher.tap(theirs), teacher.head, "teacher", theirs)
        if len(student.head.weight) != len(teacher.head.weight):
            raise ModelError(
                f"the student has {len(student.head.weight)} classes, the teacher "
                f"{len(teacher.head.weight)}",
                "activation maps are compared class by class",
                "Give both the same classes.",
            )
        s = self._attention(rows(student.tap(ours), batch), student.head)
        t = self._attention(rows(teacher.tap(theirs), batch), teacher.head).detach()
        return {"cat_kd": Term(spread((s - t).square().mean(dim=(1, 2)), batch), per="example")}

    def _attention(self, features: Float[Tensor, "b c h w"], head: Head) -> Float[Tensor, "b v p"]:
        maps = activation_maps(features, head)
        square = pooled(maps, (self.resolution, self.resolution)).flatten(2)
        return unit(square) if self.normalize else square


def activation_maps(features: Float[Tensor, "b c h w"], head: Head) -> Float[Tensor, "b v h w"]:
    """Where each class is seen; their mean over space is the logits without the bias."""
    return F.conv2d(features, head.weight.to(features.dtype)[:, :, None, None])


def require_reading(tap: Tensor, head: Head, who: str, name: str) -> None:
    """Refuse a tap that is not the map which the classifier reads once it is pooled."""
    require_map(tap, who, name)
    require_reads(tap.shape[1], head.weight.shape[1], who, name)
