"""Features as scores read them: float64 gradients, their directions, and whose prompt each is.

Dimension key: n responses, d numbers a sketch, p prompts.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from preceptor.errors import DataError
from preceptor.selection.features import Features

Weights = Float64[np.ndarray, " p"]
"""How often each prompt (ascending) counts; 1 each is the data as it is"""

SMALLEST_NORM = 1e-12
"""Shorter gradients have no direction: they are divided by this."""


@final
@dataclass(frozen=True, eq=False)
class Directions:
    """Gradients h [n, d], their directions u = h / ||h|| and the place of each row's prompt.

    `prompt` [n] are places in the ascending list of prompts, `counts` [p] their rows.
    """

    h: Float64[np.ndarray, "n d"]
    u: Float64[np.ndarray, "n d"]
    prompt: Int64[np.ndarray, " n"]
    counts: Int64[np.ndarray, " p"]

    def per_prompt(self, numbers: Shaped[np.ndarray, " n"]) -> Float64[np.ndarray, " p"]:
        """The sum over each prompt's rows."""
        return np.bincount(self.prompt, numbers, minlength=len(self.counts))

    def with_rows(self, count: int) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " qm"]]:
        """The places of prompts that have `count` rows, and those rows, each prompt's together."""
        order = np.argsort(self.prompt, kind="stable")
        places = np.flatnonzero(self.counts == count)
        return places, order[self.counts[self.prompt[order]] == count]

    def weights(self, of_prompts: Weights | None) -> Float64[np.ndarray, " n"]:
        """How often each row counts."""
        if of_prompts is None:
            return np.ones(len(self.prompt))
        return of_prompts[self.prompt]

    def second_moment(
        self, weights: Float64[np.ndarray, " n"] | None = None
    ) -> Float64[np.ndarray, "d d"]:
        """The mean of u u^T: a matrix of trace 1 where no gradient is zero."""
        if weights is None:
            return self.u.T @ self.u / len(self.u)
        return (self.u * weights[:, None]).T @ self.u / weights.sum()


def directions_of(features: Features, *, length_factor: bool) -> Directions:
    """The gradients as they are, or times ln max(|y|, 2).

    The norm of a mean over tokens falls with their number, so that without the factor short
    responses look well aligned ("In Good GRACEs", 2511.02833).

    Raises:
        DataError: every gradient is zero.
    """
    h = features.sketches.astype(np.float64)
    if length_factor:
        h *= np.log(np.maximum(features.lengths, 2))[:, None]
    norms = np.linalg.norm(h, axis=1, keepdims=True)
    if not norms.any():
        raise DataError(
            f"all {len(h)} gradients are zero",
            "the student has nothing to learn from this text, or nothing in it can be learned",
            "Check which parameters are learned, and that responses are scored.",
        )
    _, prompt, counts = np.unique(features.prompts, return_inverse=True, return_counts=True)
    u = h / np.maximum(norms, SMALLEST_NORM)
    return Directions(h, u, prompt.astype(np.int64), counts.astype(np.int64))
