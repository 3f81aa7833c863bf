"""Scores of the spectrum of gradient directions: how many ways of changing the student it holds.

Dimension key: d numbers a sketch, p prompts.
"""

from dataclasses import dataclass
from typing import Annotated, final

import numpy as np
from annotated_types import Gt
from jaxtyping import Float64
from scipy.linalg import cholesky, solve_triangular

from preceptor.fields import check_ranges
from preceptor.selection.directions import Weights, directions_of
from preceptor.selection.features import Features
from preceptor.selection.score import Better

_NOTHING = 1e-15  # Eigenvalues of a matrix of trace 1 below this are rounding.


@final
@dataclass(frozen=True)
class GVendi:
    """G-Vendi: the entropy of the eigenvalues of the mean u u^T, in nats, 0 to ln d.

    "Prismatic Synthesis", 2505.20161, prints its exponential.
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        return "g_vendi"

    @property
    def better(self) -> Better:
        """Higher: the text changes the student in more ways."""
        return "higher"

    def value(self, features: Features, weights: Weights | None = None) -> float:
        """The entropy."""
        rows = directions_of(features, length_factor=False)
        moment = rows.second_moment(None if weights is None else rows.weights(weights))
        return _entropy(np.linalg.eigvalsh(moment))

    def left_out(self, features: Features) -> Float64[np.ndarray, " p"]:
        """The entropy without each prompt, to first order in that prompt's share of the rows.

        dH = -tr(ln S dS), with dS = (m S - sum_j u_j u_j^T) / (n - m) for m rows of n.
        """
        rows = directions_of(features, length_factor=False)
        moment = rows.second_moment()
        eigenvalues, vectors = np.linalg.eigh(moment)
        logs = np.log(np.maximum(eigenvalues, _NOTHING))
        of_rows = ((rows.u @ vectors) ** 2 @ logs).ravel()
        entropy = _entropy(eigenvalues)
        rest = len(rows.u) - rows.counts
        return entropy + (rows.per_prompt(of_rows) + rows.counts * entropy) / rest


def _entropy(eigenvalues: Float64[np.ndarray, " d"]) -> float:
    there = eigenvalues[eigenvalues > _NOTHING]
    return float(-(there * np.log(there)).sum())


@final
@dataclass(frozen=True)
class LogDeterminant:
    """log det(mean u u^T + (nu / d) I): the volume that the directions span, in nats.

    Args:
        smoothing: nu.
    """

    smoothing: Annotated[float, Gt(0)] = 1e-3

    @property
    def name(self) -> str:
        """What tables call it."""
        return "log_determinant"

    @property
    def better(self) -> Better:
        """Higher: the text changes the student in more ways."""
        return "higher"

    def __post_init__(self) -> None:
        check_ranges(self)

    def value(self, features: Features, weights: Weights | None = None) -> float:
        """The log-determinant."""
        rows = directions_of(features, length_factor=False)
        moment = rows.second_moment(None if weights is None else rows.weights(weights))
        return _log_determinant(self._smoothed(moment, 1.0))

    def left_out(self, features: Features) -> Float64[np.ndarray, " p"]:
        """The log-determinant without each prompt, by the matrix determinant lemma.

        Without m rows U of n, the matrix is n / (n - m) times F - U^T U / n, with F the moment
        smoothed by (n - m) / n of nu.
        """
        rows = directions_of(features, length_factor=False)
        moment, left = rows.second_moment(), np.zeros(len(rows.counts))
        n, d = rows.u.shape
        for m in np.unique(rows.counts):
            factor = cholesky(self._smoothed(moment, (n - m) / n), lower=True)
            places, members = rows.with_rows(int(m))
            half = solve_triangular(factor, rows.u[members].T, lower=True).T.reshape(-1, m, d)
            inner = np.eye(m) - half @ half.transpose(0, 2, 1) / n
            whole = 2 * np.log(np.diagonal(factor)).sum() + d * np.log(n / (n - m))
            left[places] = whole + np.linalg.slogdet(inner)[1]
        return left

    def _smoothed(
        self, moment: Float64[np.ndarray, "d d"], share: float
    ) -> Float64[np.ndarray, "d d"]:
        return moment + share * self.smoothing / len(moment) * np.eye(len(moment))


def _log_determinant(matrix: Float64[np.ndarray, "d d"]) -> float:
    return float(2 * np.log(np.diagonal(cholesky(matrix, lower=True))).sum())
