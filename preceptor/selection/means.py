"""Scores that are a mean over responses, or the ratio of two such means.

Dimension key: n responses, p prompts.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from preceptor.selection.directions import Weights
from preceptor.selection.features import Features
from preceptor.selection.score import Better


class RatioOfSums(ABC):
    """The sum of one number a response over the sum of another."""

    name: str

    @property
    def better(self) -> Better:
        """Lower, where nothing else is said."""
        return "lower"

    @abstractmethod
    def columns(
        self, features: Features
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """What is summed above the line and below it, one number a response."""

    def value(self, features: Features, weights: Weights | None = None) -> float:
        """The ratio."""
        above, below = self._sums(features)
        if weights is not None:
            above, below = above * weights, below * weights
        return float(above.sum() / below.sum())

    def left_out(self, features: Features) -> Float64[np.ndarray, " p"]:
        """The ratio without each prompt."""
        above, below = self._sums(features)
        return (above.sum() - above) / (below.sum() - below)

    def _sums(
        self, features: Features
    ) -> tuple[Float64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
        _, prompt = np.unique(features.prompts, return_inverse=True)
        above, below = self.columns(features)
        return np.bincount(prompt, above), np.bincount(prompt, below)


@final
@dataclass(frozen=True)
class GNorm(RatioOfSums):
    """G-Norm: the mean of ||h||^2, the trace of the gradients' second moment.

    Args:
        length_factor: whether h is times ln max(|y|, 2), as GRACE's rows are in the paper.
    """

    length_factor: bool = True
    name = "g_norm"

    def columns(
        self, features: Features
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """||h||^2 over 1."""
        squares = (features.sketches.astype(np.float64) ** 2).sum(axis=1)
        if self.length_factor:
            squares *= np.log(np.maximum(features.lengths, 2)) ** 2
        return squares, np.ones(len(features))


@final
@dataclass(frozen=True)
class MeanLoss(RatioOfSums):
    """The student's loss on a response, in nats a token, meaned over responses."""

    name = "mean_loss"

    def columns(
        self, features: Features
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """The mean loss over 1."""
        return features.losses.astype(np.float64), np.ones(len(features))


@final
@dataclass(frozen=True)
class RankSurprisal(RatioOfSums):
    """The rank-surprisal ratio, sum_j r_j / sum_j s_j, over responses j (2601.14249, ACL 2026).

    r_j is the mean over tokens of min(rank, 100) and s_j that of -ln p, both of the student: a
    teacher whose text is surprising though its tokens rank high is one that teaches.
    """

    name = "rank_surprisal"

    def columns(
        self, features: Features
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """r_j over s_j."""
        ranks = features.rank_sums.astype(np.float64) / features.lengths
        return ranks, features.losses.astype(np.float64)


@final
@dataclass(frozen=True)
class MeanLength(RatioOfSums):
    """Tokens a response.

    Longer stands as better, for in the agents' proxy benchmark plain length ranked best of all;
    where lengths differ much, it says how much of another score may be length.
    """

    name = "mean_length"

    @property
    def better(self) -> Better:
        """Higher: see above."""
        return "higher"

    def columns(
        self, features: Features
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """|y| over 1."""
        return features.lengths.astype(np.float64), np.ones(len(features))


@final
@dataclass(frozen=True)
class DuplicateRate(RatioOfSums):
    """The share of responses that repeat another response to the same prompt word for word."""

    name = "duplicate_rate"

    def columns(
        self, features: Features
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """1 for each response that is not its text's first, over 1."""
        keys = np.stack([features.prompts, features.texts], axis=1)
        _, first = np.unique(keys, axis=0, return_index=True)
        again = np.ones(len(features))
        again[first] = 0
        return again, np.ones(len(features))
