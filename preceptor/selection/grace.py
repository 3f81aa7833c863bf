"""GRACE: how a teacher's text moves the student, weighed by what other prompts' text moves.

"In Good GRACEs: Principled Teacher Selection for Knowledge Distillation", 2511.02833, ICLR 2026.

In sample the mean leverage u^T S^-1 u is d whatever the spectrum, so that GRACE is about d times
G-Norm times a penalty for prompts whose responses resemble one another: 1 / (1 - d / effective
rows). `LeverageRatio` is that penalty alone.

Dimension key: n responses, d numbers a sketch, p prompts, s splits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, final

import numpy as np
from annotated_types import Ge
from jaxtyping import Float64, Int64
from scipy.linalg import cholesky, solve_triangular

from preceptor.errors import DataError
from preceptor.fields import check_ranges
from preceptor.selection.directions import Directions, Weights, directions_of
from preceptor.selection.features import Features
from preceptor.selection.left_out import grace_left_out
from preceptor.selection.score import Better
from preceptor.selection.splits import HeldOut, folds, released_splits

Mode = Literal["paper", "released"]
Part = Literal["whole", "variance", "bias"]

_CLIPPED = 1e-12  # The released code lets no eigenvalue fall below.


@final
@dataclass(frozen=True)
class Grace:
    """The mean over splits of tr(S^-1 T): T the mean h h^T of the prompts held out, S of the rest.

    S is the smoothed mean of u u^T, u = h / ||h||: directions are compared, magnitudes scored.

    Args:
        mode: "paper" multiplies gradients by ln max(|y|, 2), cuts prompts into disjoint folds and
            adds nu / d to each eigenvalue; "released" is the authors' code: no length factor, ten
            random 90/10 splits, and (1 - nu) eigenvalue + nu mean eigenvalue.
        folds: C, of the paper's mode; the score is stable from 6 on.
        smoothing: nu. The released code has 1e-3; 1e-5 to 1e-3 differ by a per cent.
        seed: of the folds.
        part: "variance" scores h - mean(h) in place of h, and "bias" the mean alone; they add up
            to the whole but for a small cross term, for the mean is over all prompts.
    """

    mode: Mode = "paper"
    folds: Annotated[int, Ge(2)] = 10
    smoothing: Annotated[float, Ge(1e-8)] = 1e-3
    seed: Annotated[int, Ge(0)] = 0
    part: Part = "whole"

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def name(self) -> str:
        """With the mode, where it is not the paper's, and the part, where it is not the whole."""
        mode = "" if self.mode == "paper" else f"_{self.mode}"
        return f"grace{mode}" + ("" if self.part == "whole" else f"_{self.part}")

    @property
    def better(self) -> Better:
        """Lower: gradients that are small, and that other prompts' gradients span."""
        return "lower"

    @property
    def length_factor(self) -> bool:
        """Whether gradients are multiplied by ln max(|y|, 2)."""
        return self.mode == "paper"

    def rows(self, features: Features) -> Directions:
        """The rows that this mode reads."""
        return directions_of(features, length_factor=self.length_factor)

    def held_out(self, prompts: Int64[np.ndarray, " p"]) -> HeldOut:
        """The splits of these prompts, ascending."""
        if self.mode == "released":
            return released_splits(len(prompts))
        return folds(prompts, self.folds, self.seed)

    def value(self, features: Features, weights: Weights | None = None) -> float:
        """The score. A split whose held-out prompts all weigh 0 does not count.

        Raises:
            DataError: all gradients are zero, or there are fewer prompts than folds.
        """
        rows = self.rows(features)
        held_out = self.held_out(features.every_prompt)
        return float(np.mean([s.value() for s in self.splits(rows, held_out, weights)]))

    def splits(
        self, rows: Directions, held_out: HeldOut, weights: Weights | None = None
    ) -> Iterator["Split"]:
        """Each split's second moment of the rest, and the rows that are scored against it."""
        weight = rows.weights(weights)
        total, mass = rows.second_moment(weight), weight.sum()
        mean = weight @ rows.h / mass
        for out in held_out:
            test = out[rows.prompt]
            if not (held := weight[test].sum()):
                continue
            if not mass > held:
                raise DataError(
                    "one split of the prompts holds all of them out",
                    "what is held out is scored against the rest",
                    "Give more prompts, or fewer folds.",
                )
            u = rows.u[test]
            rest = (mass * total - (u * weight[test, None]).T @ u) / (mass - held)
            scored = self._scored(rows.h[test], mean)
            yield Split(self, rest, scored, test, weight[test] / held, mass - held)

    def smoothed(
        self, moment: Float64[np.ndarray, "d d"], share: float = 1.0
    ) -> Float64[np.ndarray, "d d"]:
        """a S + b I as this mode has it, b times `share`."""
        scale, added = self.smoothing_of(moment)
        return scale * moment + share * added * np.eye(len(moment))

    def smoothing_of(self, moment: Float64[np.ndarray, "d d"]) -> tuple[float, float]:
        """a and b."""
        d = len(moment)
        if self.mode == "paper":
            return 1.0, self.smoothing / d
        return 1 - self.smoothing, max(self.smoothing * float(np.trace(moment)) / d, _CLIPPED)

    def _scored(
        self, h: Float64[np.ndarray, "t d"], mean: Float64[np.ndarray, " d"]
    ) -> Float64[np.ndarray, "t d"]:
        match self.part:
            case "whole":
                return h
            case "variance":
                return h - mean
            case "bias":
                return np.broadcast_to(mean, h.shape)

    def left_out(self, features: Features) -> Float64[np.ndarray, " p"]:
        """The score without each prompt; the splits of the others stay."""
        return grace_left_out(self, features)


class Split(NamedTuple):
    """One split: the mean u u^T [d, d] of the rest, and what is scored against it.

    `scored` [t, d] are the rows held out, `test` [n] tells where they are among all, `weight` [t]
    sums to 1, and `mass` is the rest's number of rows.
    """

    score: Grace
    rest: Float64[np.ndarray, "d d"]
    scored: Float64[np.ndarray, "t d"]
    test: np.ndarray
    weight: Float64[np.ndarray, " t"]
    mass: float

    def value(self) -> float:
        """tr(S^-1 T)."""
        return float(self.weight @ self.of_rows())

    def of_rows(self) -> Float64[np.ndarray, " t"]:
        """x^T S^-1 x of each row that is scored."""
        factor = cholesky(self.score.smoothed(self.rest), lower=True)
        return (solve_triangular(factor, self.scored.T, lower=True) ** 2).sum(axis=0)
