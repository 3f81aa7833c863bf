"""Khoa Trinh, Gaurav Menghani, Erik Vee.

"GUIDE: Guided Initialization and Distillation of Embeddings". arXiv 2025. arXiv:2510.06502.
The pull is an addition to the paper's start, after Xuhong Li, Yves Grandvalet, Franck Davoine.
"Explicit Inductive Bias for Transfer Learning with Convolutional Networks". ICML 2018.
arXiv:1802.01483.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float, Int
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.objectives._adapters import added, counting_tokens, kept, token_term
from preceptor.objectives.base import LayerKind, Layers, Objective
from preceptor.types import Batch, Context, Needs, Outputs, Signal, Terms, at_least_float32


@final
class Anchor(nn.Module):
    """Where an embedding table stood when the stage began: a buffer, so saved and never trained."""

    table: Float[Tensor, "v d"]

    def __init__(self, table: Float[Tensor, "v d"]) -> None:
        super().__init__()
        self.register_buffer("table", table)


@final
@dataclass(frozen=True)
class EmbeddingPull(Objective[nn.ModuleList]):
    """|E[x] - E_0[x]|^2 of the tokens x that are read: the embeddings are held to where they began.

    After `start: {guide: {}}` E_0 is the teacher's table in the student's basis, and the pull is
    towards the projected teacher. Added over the width, the mean over the tokens that count. Only
    rows of the batch are pulled. No teacher is read. Give it a weight that fades:

        {embedding_pull: {}, weight: {from: 0.1, to: 0, over: 0.5}}

    Args:
        layers: pairs of taps, of which the student's is read: an embedding, whose output is
            [B, T, D] and whose table is its `weight`; "auto" is where tokens come in.
    """

    reads: ClassVar[LayerKind | None] = "table"

    layers: Layers = "auto"

    def needs(self) -> Needs:
        """The embedding's output."""
        return Needs(student_taps=frozenset(self._names()), scope="example")

    def auxiliary(self, context: Context) -> nn.ModuleList:
        """A copy of each table [V, D]: memory of one more table."""
        tables = (_table(context.parameters, name) for name in self._names())
        return nn.ModuleList(Anchor(at_least_float32(table.detach()).clone()) for table in tables)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        """One mean an example over its tokens that count."""
        del teacher
        ids = _ids(batch)
        distances: list[Tensor] = []
        for name, anchor in zip(self._names(), aux, strict=True):
            assert isinstance(anchor, Anchor)
            read = at_least_float32(student.tap(name))
            tokens = counting_tokens(batch, read, f"the student's {name!r}")
            moved = (kept(read - anchor.table[ids], tokens) ** 2).sum(dim=-1)
            count = moved.shape[1] if tokens is None else tokens.sum(dim=1).clamp_min(1)
            distances.append(moved.sum(dim=1) / count)
        return {"embedding_pull": token_term(added(distances), batch)}

    def _names(self) -> tuple[str, ...]:
        return ("auto",) if self.layers == "auto" else tuple(name for name, _ in self.layers)


def _table(parameters: Mapping[str, Tensor], name: str) -> Float[Tensor, "v d"]:
    table = parameters.get(f"{name}.weight")
    if table is None or table.ndim != 2:
        raise ModelError(
            f"the embeddings of {name!r} were to be held to where they began",
            "the student has no table there: no parameter of that name with `.weight` behind it",
            "Name its token embedding, as `preceptor taps` lists it.",
        )
    return table


def _ids(batch: Batch) -> Int[Tensor, "b t"]:
    if isinstance(batch.inputs, Mapping) and "input_ids" in batch.inputs:
        return batch.inputs["input_ids"]
    raise ModelError(
        "the rows of an embedding table were to be held to where they began",
        "the batch holds no tokens",
        "Leave `embedding_pull` out: it is for models that read text.",
    )
