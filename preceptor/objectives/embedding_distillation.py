"""Nils Reimers, Iryna Gurevych.

"Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation". EMNLP 2020.
arXiv:2004.09813.

Dimension key: b examples, d width.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import ModelError
from preceptor.objectives._adapters import added, counting_rows, kept, regressed, tapped
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.ops.maps import squared_difference
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Term, Terms


@final
@dataclass(frozen=True)
class EmbeddingDistillation(Objective[nn.ModuleList]):
    """The student's embedding of an example is to be the teacher's: equation 1.

    "mse" is the mean over width of (W e_s - e_t)^2, "cosine" 1 - cos(W e_s, e_t). W is a linear map
    where widths differ, trained beside the student and left behind; a student whose own space is
    to be the teacher's ends in a map of its own (`dimension`, of an encoder) and needs none.

    Args:
        layers: pairs of taps that hold [B, D]; "auto" is an encoder's answer, or what a classifier
            reads.
        form: "mse" or "cosine".
    """

    reads: ClassVar[LayerKind | None] = "embedding"

    layers: Layers = "auto"
    form: Literal["mse", "cosine"] = "mse"

    def needs(self) -> Needs:
        """The pairs' taps."""
        return pair_needs(self.layers, Needs(scope="example"))

    def auxiliary(self, context: Context) -> nn.ModuleList:
        """One linear map a pair; nothing where widths agree."""
        pairs = tapped(self.layers, context.student, context.teacher)
        widths = [(ours.shape[-1], theirs.shape[-1]) for _, ours, theirs in pairs]
        return nn.ModuleList(
            nn.Identity() if ours == theirs else nn.Linear(ours, theirs, bias=False)
            for ours, theirs in widths
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        """One number an example, added over the pairs."""
        rows = counting_rows(batch)
        distances: list[Tensor] = []
        pairs = tapped(self.layers, student, teacher)
        for projection, (words, ours, theirs) in zip(aux, pairs, strict=True):
            _check(words, ours, theirs)
            mapped = regressed(projection, kept(ours, rows))
            distances.append(self._distance(mapped, kept(theirs, rows)))
        return {"embedding_distillation": Term(added(distances), per="example")}

    def _distance(
        self, ours: Float[Tensor, "b d"], theirs: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        if self.form == "mse":
            return squared_difference(ours, theirs).mean(dim=-1)
        return 1 - F.cosine_similarity(ours, theirs, dim=-1)


def _check(words: str, ours: Tensor, theirs: Tensor) -> None:
    if ours.ndim != 2 or theirs.ndim != 2:
        raise ModelError(
            f"{words} have shapes {tuple(ours.shape)} and {tuple(theirs.shape)}",
            "an embedding is one vector an example, [B, D]",
            "Tap pooled outputs; for tokens use `hidden_states`, for maps `fitnets`.",
        )
