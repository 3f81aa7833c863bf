"""The one code path: a student's tensors from its teacher's, axis by axis.

    stream                         the basis: channels are selected, or M is multiplied in
    heads, groups, size, neurons   the block's choice
    rows, classes                  the first

and, so that numbers keep their size where fewer of them are summed,

    norms before readers   times sqrt(d / k); where there is none, the readers themselves
    embeddings             times sqrt(d / k), where the model multiplies them by the root of k
    queries                times (l / l') (scaling / scaling'), for heads of l' of l numbers
"""

from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.students.architecture import Architecture, Piece, described
from preceptor.students.axes import FUSED
from preceptor.students.bases import Basis
from preceptor.students.choosing import Choice
from preceptor.students.folding import Folded, gain_of
from preceptor.students.report import How, Origin
from preceptor.students.weights import ModuleWeights, Weights


@final
class Mapping:
    """A student and where it is cut out of its teacher.

    Args:
        student: changed in place by `run`.
        teacher: the weights.
        basis: of the stream.
        choices: one a mapped block, the student's first blocks in order.
        ends: whether what follows the blocks is mapped too: last norm, head.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Weights,
        basis: Basis,
        choices: Sequence[Choice],
        *,
        ends: bool = True,
    ) -> None:
        self._own = ModuleWeights(student)
        self.student, self.teacher = described(self._own), described(teacher)
        self._weights, self._basis = teacher, basis
        self._choices, self._ends = tuple(choices), ends
        self._folded = Folded(teacher, self.teacher) if basis.dense else None
        self.warnings: list[str] = []

    def run(self) -> tuple[Origin, ...]:
        """Write the student's tensors; what is not covered stays as it was drawn."""
        origins: dict[str, Origin] = {}
        with torch.no_grad():
            for piece in self.student.pieces.values():
                if piece.name not in origins or origins[piece.name].how == "random":
                    origins[piece.name] = self._map(piece)
        self._tell_left_out()
        return (*origins.values(), *self._others(origins))

    def _tell_left_out(self) -> None:
        """What the mapped blocks of the teacher have and the student does not."""
        places = {at[0]: at for at in self.student.pieces}
        for key, block, what in self.teacher.pieces:
            lacks = key in places and (key, 0, what) not in self.student.pieces
            if lacks and block == self._choices[0].of:
                self.warnings.append(f"the teacher's {key} has a {what} that the student lacks")

    def _others(self, origins: dict[str, Origin]) -> Iterator[Origin]:
        """Tensors under a second name, and what the table does not know."""
        first: dict[int, str] = {}
        for name in origins:
            first.setdefault(self._own.read(name).data_ptr(), name)
        for name in self._own.parameters:
            if name not in origins:
                shared = first.get(self._own.read(name).data_ptr())
                yield Origin(name, "tied", shared) if shared else Origin(name, "random")

    def _map(self, piece: Piece) -> Origin:
        if not self._covered(piece):
            return Origin(piece.name, "random")
        block = self._block(piece)
        source = self.teacher.pieces.get((piece.layer.key, block, piece.what))
        if source is None:
            return self._without_source(piece)
        target = self._own.read(piece.name)
        if self._basis.dense and piece.layer.place == "before":
            target.copy_(self._constant(piece))
            return Origin(piece.name, "set", source.name)
        if not self._fits(piece, source):
            return Origin(piece.name, "random")
        for rows, value in self._values(piece, source):
            target[rows] = value.to(target)
        return Origin(piece.name, self._how(piece, source), source.name)

    def _block(self, piece: Piece) -> int:
        """The teacher's block: of a norm on the stream behind a block, the last one stood for."""
        if not piece.layer.in_block:
            return -1
        choice = self._choices[piece.block]
        behind = piece.layer.key == "after mlp" and piece.layer.place == "on"
        return choice.until if behind else choice.of

    def _covered(self, piece: Piece) -> bool:
        if piece.layer.in_block:
            return piece.block < len(self._choices)
        if piece.layer.place == "before" or piece.layer.reader or piece.axes == ("classes",):
            return self._ends
        return True

    def _without_source(self, piece: Piece) -> Origin:
        """What the teacher does not have."""
        if piece.layer.key == "sentence" and piece.shape == (self._basis.width, self._basis.kept):
            # The student's embedding in the teacher's own channels.
            back = self._basis.of(torch.eye(self._basis.width), 1)
            self._own.read(piece.name).copy_(back)
            return Origin(piece.name, "set")
        if piece.layer.in_block:
            raise ModelError(
                f"the student's {piece.name!r} was to begin as its teacher's",
                f"no {piece.what} of that kind is in a {self.teacher.family.types[0]} teacher",
                "Choose a student of its teacher's architecture.",
            )
        self.warnings.append(f"{piece.name} stays random: the teacher has nothing of the kind")
        return Origin(piece.name, "random")

    def _fits(self, piece: Piece, source: Piece) -> bool:
        """Whether what is taken in order or whole is there; a classifier of others is not taken."""
        for axis, own, theirs in zip(piece.axes, piece.shape, source.shape, strict=True):
            if axis == "own" and own != theirs:
                raise ModelError(
                    f"the student's {piece.name!r} is {list(piece.shape)}",
                    f"the teacher's is {list(source.shape)}, and is taken whole",
                    "Give both patches, channels and images of one size.",
                )
            if axis == "classes" and piece.layer.key == "classifier" and own != theirs:
                self.warnings.append(
                    f"{piece.name} stays random: {own} classes, the teacher has {theirs}"
                )
                return False
            if axis in ("rows", "classes") and own != theirs:
                first = min(own, theirs)
                rest = f"; the rest of {own} stay random" if own > theirs else ""
                self.warnings.append(f"{piece.name} takes the first {first} of {theirs} rows{rest}")
        return True

    def _values(self, piece: Piece, source: Piece) -> Iterator[tuple[slice, Tensor]]:
        """The student's rows, a part at a time where they are the teacher's first."""
        if piece.axes[0] not in ("rows", "classes"):
            yield slice(None), self._value(piece, source, slice(None))
            return
        count = min(piece.shape[0], source.shape[0])
        step = max(1, (1 << 25) // (self._basis.width if len(piece.shape) > 1 else 1))
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            yield rows, self._value(piece, source, rows)

    def _value(self, piece: Piece, source: Piece, rows: slice) -> Tensor:
        kept = self._choices[piece.block].kept if piece.layer.in_block else {}
        if self._folded is None:
            value = self._weights.read(source.name, rows).float().cpu()
        else:
            value = self._folded.read(source, rows)
        for dim, axis in enumerate(piece.axes):
            if axis == "stream":
                value = self._basis.of(value, dim)
            elif axis in kept:
                value = value.index_select(dim, kept[axis])
        value = self._carry(value, piece, source, rows, kept)
        return self._scaled(value, piece)

    def _carry(
        self, value: Tensor, piece: Piece, source: Piece, rows: slice, kept: dict[str, Tensor]
    ) -> Tensor:
        """A reader without a bias takes up its norm's: the norm adds one, and its columns' sum,
        which a centred stream never sees, is what the reader made of the bias."""
        folded, layer = self._folded, piece.layer
        if folded is None or piece.what == "bias" or not layer.reader:
            return value
        if not folded.carried(layer.reads):
            return value
        constant = folded.constant(source, rows)
        if layer.axes[0] in kept:
            constant = constant[kept[layer.axes[0]]]
        constant = constant / self._basis.kept
        return value + (constant if layer.transposed else constant[:, None])

    def _scaled(self, value: Tensor, piece: Piece) -> Tensor:
        """The constants; none where the student is of its teacher's size."""
        layer, gain = piece.layer, self._basis.gain
        less_one = self.student.family.norm == "rms+1" and bool(layer.place)
        if layer.place == "before" and piece.what == "weight":
            return _times(value, gain / self._embedding_gain(piece), less_one)
        if layer.reader and not layer.reads and piece.what == "weight" and layer.in_block:
            value = value * gain
        if layer.key == "embedding" and self.student.family.scaled_embedding:
            return value * gain
        return self._query_scaled(value, piece, less_one)

    def _query_scaled(self, value: Tensor, piece: Piece, less_one: bool) -> Tensor:
        own, theirs = self.student.sizes, self.teacher.sizes
        factor = theirs.size / own.size * theirs.scaling / own.scaling
        if abs(factor - 1) < 1e-12:
            return value
        normed = self.student.family.layer("query norm") is not None
        if piece.layer.key == ("query norm" if normed else "query"):
            return _times(value, factor, less_one)
        if piece.layer.axes[0] == FUSED:
            dim = piece.axes.index(FUSED)
            scale = torch.ones(value.shape[dim])
            scale[: own.heads * own.size] = factor
            return value * (scale if dim == value.dim() - 1 else scale[:, None])
        return value

    def _embedding_gain(self, piece: Piece) -> float:
        """A tied head is scaled with the embeddings, and the last norm then is not."""
        scaled = self.student.tied and self.student.family.scaled_embedding
        return self._basis.gain if scaled and piece.layer.key == "final norm" else 1.0

    def _constant(self, piece: Piece) -> Tensor:
        """What a norm holds whose gain and bias its readers have taken up [k]."""
        folded, kept = self._folded, self._basis.kept
        assert folded is not None, "norms stay what they are where channels do"
        key = piece.layer.key
        if key == "final norm" and self.student.tied:
            return self._tied_norm(piece)
        if piece.what == "bias":
            return torch.full((kept,), float(folded.carried(key)))
        less = 1.0 if self.student.family.norm == "rms+1" else 0.0
        return torch.full((kept,), self._basis.gain - less)

    def _tied_norm(self, piece: Piece) -> Tensor:
        """The nearest diagonal to the last norm in the basis: its head cannot take it up."""
        if piece.what == "bias":
            bias = self._folded and self._folded.bias("final norm", -1)
            assert bias is not None, "a student's norm has a bias where its teacher's has one"
            return self._basis.of(bias, 0)
        gain = gain_of(self._weights, self.teacher, "final norm", -1)
        matrix = self._basis.matrix
        assert matrix is not None, "a dense basis has a matrix"
        nearest = (matrix.square() * gain.double()[:, None]).sum(0)
        stretched = gain.double()[:, None] * matrix
        left = ((stretched - matrix * nearest).norm() / stretched.norm()).item()
        self.warnings.append(
            f"{piece.name} is approximate: the head is tied to the embeddings and cannot take up "
            f"the last norm's gain; {left:.1%} of it is left out. Untie the head to keep it"
        )
        nearest = nearest * self._basis.gain / self._embedding_gain(piece)
        return (nearest - (1.0 if self.student.family.norm == "rms+1" else 0.0)).float()

    def _how(self, piece: Piece, source: Piece) -> How:
        if "stream" in piece.axes and self._basis.dense:
            return "projected"
        return "copied" if piece.shape == source.shape else "selected"


def _times(value: Tensor, factor: float, less_one: bool) -> Tensor:
    """A gain times a factor, where the gain may be stored less one."""
    return value * factor + (factor - 1) if less_one else value * factor


def differences(student: Architecture, teacher: Architecture, depth: Sequence[int]) -> list[str]:
    """What the configurations say otherwise, so that the same weights are another function."""
    names = ("hidden_act", "hidden_activation", "activation_function", "activation")
    names += ("rope_parameters", "sliding_window", "attn_logit_softcapping")
    names += ("final_logit_softcapping", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")
    names += ("scale_attn_weights", "scale_attn_by_inverse_layer_idx")
    found = []
    for name in names:
        own, theirs = getattr(student.config, name, None), getattr(teacher.config, name, None)
        if own != theirs:
            found.append(f"{name} is {own!r}, the teacher's {theirs!r}")
    # Where nothing is said, positions are absolute.
    own, theirs = (
        getattr(a.config, "position_embedding_type", None) or "absolute" for a in (student, teacher)
    )
    if own != theirs:
        found.append(f"position_embedding_type is {own!r}, the teacher's {theirs!r}")
    own, theirs = (getattr(a.config, "layer_types", None) for a in (student, teacher))
    if own and theirs:
        for block, of in enumerate(depth):
            if own[block] != theirs[of]:
                found.append(
                    f"block {block} attends by {own[block]}, the teacher's {of} by {theirs[of]}"
                )
    if teacher.family.rotary and student.sizes.size != teacher.sizes.size:
        kind = (getattr(student.config, "rope_parameters", None) or {}).get("rope_type", "default")
        if kind not in ("default", "linear", "llama3"):
            found.append(f"rotary positions of type {kind!r} depend on the head size")
    return found
