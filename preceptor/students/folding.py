"""A pre-norm teacher's weights with its norms folded away, a tensor at a time.

    reader(gain * x + bias)  =  (reader diag(gain)) x + reader bias

After that no number of a norm lies on the stream's axis, so the stream may be turned. A LayerNorm
takes the stream's mean away before anything reads it; so whoever writes may leave the mean out,
and then it is an RMSNorm.

Saleh Ashkboos, Maximilian L. Croci, Marcelo Gennari do Nascimento, Torsten Hoefler, James Hensman.
"SliceGPT: Compress Large Language Models by Deleting Rows and Columns". ICLR 2024.
arXiv:2401.15024, section 3.
"""

from typing import final

from torch import Tensor

from preceptor.errors import ModelError
from preceptor.students.architecture import Architecture, Piece
from preceptor.students.weights import Weights


@final
class Folded:
    """What a teacher's tensors are once its norms are folded.

    Errors:
        ModelError: a norm stands after a writer or on the stream, where it cannot be folded.
    """

    def __init__(self, weights: Weights, architecture: Architecture) -> None:
        require_turning(architecture)
        self._weights, self._architecture = weights, architecture
        self._centred = architecture.family.norm == "layer"

    def read(self, piece: Piece, rows: slice = slice(None)) -> Tensor:
        """A tensor of a layer that is no norm, float32, or some rows of it."""
        tensor = self._weights.read(piece.name, rows).float().cpu()
        layer = piece.layer
        if layer.reader and piece.what == "weight":
            gain = self.gain(layer.reads, piece.block)
            return tensor * (gain[:, None] if layer.transposed else gain)
        if layer.reader:
            weight = self._architecture.piece(layer.key, piece.block)
            assert weight is not None, f"a bias without a weight: {piece.name}"
            return tensor if self.carried(layer.reads) else tensor + self.constant(weight)[rows]
        if self._centred and "stream" in piece.axes:
            return tensor - tensor.mean(piece.axes.index("stream"), keepdim=True)
        return tensor

    def gain(self, norm: str, block: int) -> Tensor:
        """A norm's gain [d], float32."""
        return gain_of(self._weights, self._architecture, norm, block)

    def bias(self, norm: str, block: int) -> Tensor | None:
        """A norm's bias [d], float32, where it has one."""
        piece = self._architecture.piece(norm, block, "bias")
        return None if piece is None else self._weights.read(piece.name).float().cpu()

    def constant(self, piece: Piece, rows: slice = slice(None)) -> Tensor:
        """What a reader makes of its norm's bias [out]; zero where there is none."""
        weight = self._weights.read(piece.name, rows).float().cpu()
        weight = weight.mT if piece.layer.transposed else weight
        bias = self.bias(piece.layer.reads, piece.block)
        return weight.new_zeros(len(weight)) if bias is None else weight @ bias

    def carried(self, norm: str) -> bool:
        """Whether a norm has a bias and a reader without one, which could take it up."""
        there = self._architecture.pieces
        if not any(key == norm and what == "bias" for key, _, what in there):
            return False
        read = {(key, block) for key, block, _ in there if self._reads(key) == norm}
        return any((key, block, "bias") not in there for key, block in read)

    def _reads(self, key: str) -> str:
        layer = self._architecture.family.layer(key)
        return "" if layer is None else layer.reads


def gain_of(weights: Weights, architecture: Architecture, norm: str, block: int) -> Tensor:
    """What a norm multiplies with [d], float32, whether or not it is stored less one."""
    piece = architecture.piece(norm, block)
    assert piece is not None, f"no norm {norm!r} in block {block}"
    gain = weights.read(piece.name).float().cpu()
    return gain + 1 if architecture.family.norm == "rms+1" else gain


def require_turning(architecture: Architecture) -> None:
    """Raise `ModelError` where a norm lies on the stream's own axis, by its name."""
    norms = architecture.family.norms_on_stream
    there = [row for row in norms if any(key == row.key for key, _, _ in architecture.pieces)]
    if there:
        kind = architecture.family.types[0]
        where = "after a writer" if there[0].place == "after" else "on the stream"
        raise ModelError(
            f"a teacher of architecture {kind} was to be written in a basis that mixes channels",
            f"its norm {there[0].name!r} stands {where} and multiplies each channel on its own: "
            "turned, the teacher would be another function",
            "Keep channels as they are: begin by `select` or `prune`.",
        )
