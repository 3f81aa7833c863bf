"""Bases of a teacher's residual stream: which d' of its d numbers, or sums of them, are kept.

A basis is orthonormal. It is either a list of channels, which goes with every norm, or a dense
matrix M [d, d'], which stands where no norm lies on the stream's own axis. Where the teacher's
norms are LayerNorms they take the stream's mean away, and the student's do so too: the stream is
then centred, and M maps onto numbers whose mean is zero. So it keeps d' - 1 directions, and a
LayerNorm in the student is an RMSNorm.

Dimension key: d the teacher's width, k the student's, v rows of a table.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import eigh, helmert
from scipy.linalg.blas import get_blas_funcs
from torch import Tensor

from preceptor.errors import DataError
from preceptor.students.architecture import Architecture
from preceptor.students.weights import Weights


@final
@dataclass(frozen=True)
class Basis:
    """An orthonormal basis; exactly one of `matrix` and `channels` says what it is.

    Args:
        name: how it was chosen.
        matrix: [d, k], float64.
        channels: [k], ascending where it selects, any order where it permutes.
        width: d.
    """

    name: str
    width: int
    matrix: Float[Tensor, "d k"] | None = None
    channels: Int[Tensor, " k"] | None = None

    @property
    def dense(self) -> bool:
        """Whether it mixes channels."""
        return self.matrix is not None

    @property
    def kept(self) -> int:
        """k."""
        if self.matrix is not None:
            return self.matrix.shape[1]
        assert self.channels is not None
        return len(self.channels)

    @property
    def gain(self) -> float:
        """What a norm's gain is multiplied by: a mean over k numbers stands for one over d."""
        return (self.width / self.kept) ** 0.5

    def of(self, tensor: Tensor, dim: int) -> Tensor:
        """A tensor with its stream, the dimension `dim` of length d, in this basis."""
        if self.matrix is None:
            assert self.channels is not None
            return tensor.index_select(dim, self.channels.to(tensor.device))
        matrix = self.matrix.to(tensor)
        return (tensor.movedim(dim, -1) @ matrix).movedim(-1, dim)

    def explained(self, moment: Float[Tensor, "d d"]) -> float:
        """The share of a second moment's energy that the basis keeps, in [0, 1]."""
        whole = moment.trace().item()
        if whole <= 0:
            return 1.0
        if self.matrix is None:
            return self.of(moment.diagonal(), 0).sum().item() / whole
        return ((moment @ self.matrix) * self.matrix).sum().item() / whole


def evenly(total: int, kept: int) -> Int[Tensor, " k"]:
    """`kept` evenly spaced of `total` indices; both ends are kept unless the step is whole.

    Zhiqiu Xu, Yanjie Chen, Kirill Vishniakov, Yida Yin, Zhiqiang Shen, Trevor Darrell, Lingjie
    Liu, Zhuang Liu. "Initializing Models with Larger Ones". ICLR 2024. arXiv:2311.18823,
    uniform element selection.

    >>> evenly(12, 4).tolist(), evenly(10, 4).tolist()
    ([0, 3, 6, 9], [0, 3, 6, 9])
    """
    if total % kept == 0:
        return torch.arange(kept) * (total // kept)
    return torch.from_numpy(np.linspace(0, total - 1, kept).round().astype(np.int64))


def most(importance: Float[Tensor, " d"], kept: int) -> Int[Tensor, " k"]:
    """The `kept` most important indices, ascending; of equals the first."""
    order = torch.argsort(importance, descending=True, stable=True)
    return order[:kept].sort().values


def selected(architecture: Architecture, kept: int) -> Basis:
    """Evenly spaced channels."""
    width = architecture.sizes.stream
    return Basis("select", width, channels=evenly(width, kept))


def pruned(importance: Float[Tensor, " d"], kept: int) -> Basis:
    """The channels of most importance."""
    return Basis("prune", len(importance), channels=most(importance, kept))


def principal(name: str, moment: Float[Tensor, "d d"], kept: int, *, centred: bool) -> Basis:
    """The leading eigenvectors of a second moment: of all bases the one that keeps most energy.

    The moment is about zero, not about the mean: a stream's mean is part of it, and a student
    without biases has nowhere else to add it back.
    """
    own = moment.double().cpu().numpy()
    across = None
    if centred:
        # Within what is perpendicular to the mean, for the moment may have other empty directions.
        across = helmert(len(own)).T
        own = across.T @ own @ across
    width, count = len(own), kept - centred
    subset = None if count == width else (width - count, width - 1)
    vectors = eigh(own, subset_by_index=subset)[1]
    vectors = vectors if across is None else across @ vectors
    # Largest first, each with its largest number positive: the same on every machine.
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(count)])
    return _placed(name, torch.from_numpy(np.ascontiguousarray(vectors * signs)), centred)


def random_basis(width: int, kept: int, *, seed: int, centred: bool) -> Basis:
    """Directions drawn uniformly: what any basis has to do better than."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(width, kept - centred, generator=generator, dtype=torch.float64)
    if centred:
        drawn = drawn - drawn.mean(0)
    vectors, triangle = torch.linalg.qr(drawn)
    return _placed("random", vectors * triangle.diagonal().sign(), centred)


def turned(name: str, rotation: Float[Tensor, "d d"], *, centred: bool) -> Basis:
    """All of the stream, turned by an orthogonal matrix (of d - 1 directions where centred)."""
    if not centred:
        return Basis(name, len(rotation), matrix=rotation.double())
    width = len(rotation) + 1
    # An orthonormal basis of what is perpendicular to the mean.
    across = torch.from_numpy(helmert(width).copy()).T
    return _placed(name, across @ rotation.double(), centred)


def _placed(name: str, vectors: Tensor, centred: bool) -> Basis:
    """Directions as a basis; where centred, the student's numbers are made to have mean zero."""
    if not centred:
        return Basis(name, len(vectors), matrix=vectors)
    without_mean = torch.from_numpy(helmert(vectors.shape[1] + 1).copy())
    return Basis(name, len(vectors), matrix=vectors @ without_mean)


def centred_moment(moment: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The second moment of vectors whose mean over their own numbers is taken away."""
    half = moment - moment.mean(0, keepdim=True)
    return half - half.mean(1, keepdim=True)


def embedding_moment(
    weights: Weights,
    architecture: Architecture,
    frequencies: Float[Tensor, " v"] | None = None,
) -> Float[Tensor, "d d"]:
    """E^T diag(w) E of the embedding table, float64, a few rows in memory at a time.

    Args:
        weights, architecture: the teacher's.
        frequencies: how often each token occurs; every row counts alike where nothing is said.

    Errors:
        DataError: not one frequency a row, or one below zero.
    """
    table = architecture.piece("embedding")
    if table is None:
        raise DataError(
            f"the embedding table of a {architecture.family.types[0]} model was asked for",
            "it reads no tokens and has none",
            "Take the basis from activations (`project`) or channels (`select`, `prune`).",
        )
    rows, width = table.shape
    if frequencies is not None and (len(frequencies) != rows or bool((frequencies < 0).any())):
        raise DataError(
            f"{len(frequencies)} frequencies were given, the least of them {frequencies.min():g}",
            f"the embedding table has {rows} rows, and each occurs no less than never",
            "Count the tokens of a text, one number an id.",
        )
    moment = np.zeros((width, width))
    own_product: Any = get_blas_funcs("syrk", dtype=np.float32)
    for at, part in weights.in_rows(table.name):
        own = part.float().cpu()
        if frequencies is not None:
            own = own * frequencies[at, None].to(own).sqrt()
        # The product with itself has half the work, and the upper half alone is written.
        moment += own_product(1.0, own.contiguous().numpy().T)
    return torch.from_numpy(np.triu(moment) + np.triu(moment, 1).T)
