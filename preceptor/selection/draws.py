"""Paired draws of prompts: how far scores would move had other prompts been asked.

A plain bootstrap of GRACE is wrong twice over. A prompt that is drawn twice stands in the second
moment twice and tells it nothing new, so that a draw has about half the effective rows and a higher
penalty for few of them: with 0.28 dimensions a row (512 prompts x 4 responses x 512 numbers) its
mean is 1.4 to 1.9 times the score, and its spread 1.5 to 2.2 times that over fresh prompts. Each
draw also costs as much as the score. So each prompt's influence is taken from the score without it,
where nothing is repeated, and influences are drawn, by the same counts for all candidates
(`tests/selection/test_draws.py` holds their spread to that over fresh prompts, and to the plain
bootstrap's where rows are many).

Dimension key: p prompts, b draws.
"""

from typing import final

import numpy as np
from jaxtyping import Float64

from preceptor.errors import DataError
from preceptor.ops.resampling import DRAWS
from preceptor.selection.features import Features
from preceptor.selection.score import Score


@final
class Draws:
    """How often each of p prompts (ascending) is drawn, in each of b draws.

    Args:
        prompts: p, at least two.
        count: b.
        seed: of the draws.
    """

    def __init__(self, prompts: int, count: int = DRAWS, seed: int = 0) -> None:
        if prompts < 2:
            raise DataError(
                f"candidates are compared on {prompts} prompt",
                "nobody knows how much of a difference is that prompt",
                "Give at least two prompts, better some hundreds.",
            )
        generator = np.random.default_rng(seed)
        equal = np.full(prompts, 1 / prompts)
        self._excess = generator.multinomial(prompts, equal, size=count).astype(np.float64) - 1

    def scores(self, score: Score, features: Features) -> Float64[np.ndarray, " b"]:
        """A score in each draw: score + sum_p (times drawn - 1) (mean of left out - left out p)."""
        return self.around(score.value(features), score.left_out(features))

    def around(
        self, value: float, left_out: Float64[np.ndarray, " p"]
    ) -> Float64[np.ndarray, " b"]:
        """The same, of what the score is and what it is without each prompt.

        The draws' variance is the jackknife's, (p - 1) / p times the sum of squared deviations.
        """
        share = np.sqrt((len(left_out) - 1) / len(left_out))
        return value + self._excess @ (share * (left_out.mean() - left_out))


def standard_error(left_out: Float64[np.ndarray, " p"]) -> float:
    """The jackknife's, of what has these values without each prompt; differences included."""
    count = len(left_out)
    return float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))
