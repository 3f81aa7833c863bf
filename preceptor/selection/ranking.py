"""Candidates in order of a score, with what is known of that order.

Dimension key: k candidates, b draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from preceptor.errors import DataError
from preceptor.ops.resampling import DRAWS, LEVEL, Interval, percentile
from preceptor.selection.cautions import cautions_about
from preceptor.selection.draws import Draws
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.leverage import LeverageRatio
from preceptor.selection.means import DuplicateRate, GNorm, MeanLength, MeanLoss, RankSurprisal
from preceptor.selection.score import Better, Score
from preceptor.selection.signs import caution_about_lead
from preceptor.selection.spectrum import GVendi, LogDeterminant

EVERY_SCORE: tuple[Score, ...] = (
    Grace(),
    Grace(mode="released"),
    Grace(part="variance"),
    Grace(part="bias"),
    GNorm(),
    LeverageRatio(),
    GVendi(),
    LogDeterminant(),
    MeanLoss(),
    RankSurprisal(),
    MeanLength(),
    DuplicateRate(),
)
"""All scores with the settings of their papers"""

BESIDE = EVERY_SCORE[2:]
"""What is told beside GRACE: all of it comes from the same pass"""


@final
@dataclass(frozen=True)
class Ranked:
    """One candidate.

    Args:
        name: the candidate's.
        score: with its interval over prompts.
        probability_best: the share of draws of prompts in which it is the best.
        tied: the candidates that it cannot be told from, best first.
        beside: further scores by name.
        published_scale: times it, GRACE and G-Norm have the size that papers print.
    """

    name: str
    score: Interval
    probability_best: float
    tied: tuple[str, ...]
    beside: Mapping[str, float]
    published_scale: float


POSITIVE = frozenset(
    {
        "grace",
        "grace_released",
        "grace_variance",
        "grace_bias",
        "g_norm",
        "g_vendi",
        "leverage_ratio",
        "mean_loss",
        "rank_surprisal",
        "mean_length",
        "duplicate_rate",
    }
)
"""Scores that are never below 0."""


@final
@dataclass(frozen=True)
class Ranking:
    """Candidates, the best first.

    Args:
        score: what they are ranked by.
        better: which side of it is the better one.
        candidates: in order.
        differences: by a candidate and one ranked below it, the first's score less the second's
            with its paired interval.
        cautions: what makes the score less than it seems, a sentence each.
        prompts: how many all were compared on.
    """

    score: str
    better: Better
    candidates: tuple[Ranked, ...]
    differences: Mapping[str, Mapping[str, Interval]]
    cautions: tuple[str, ...]
    prompts: int

    @property
    def best(self) -> Ranked:
        """The first."""
        return self.candidates[0]

    @property
    def names(self) -> tuple[str, ...]:
        """In order."""
        return tuple(candidate.name for candidate in self.candidates)

    def difference(self, first: str, second: str) -> Interval:
        """The first's score less the second's.

        Raises:
            DataError: one of them is not ranked, or both are the same.
        """
        for one, other, sign in ((first, second, 1), (second, first, -1)):
            if (held := self.differences.get(one, {}).get(other)) is not None:
                return held if sign == 1 else Interval(-held.estimate, -held.high, -held.low)
        raise DataError(
            f"the difference of {first} and {second} was asked for",
            f"ranked are {', '.join(self.names)}",
            "Name two of these.",
        )


def rank(
    candidates: Mapping[str, Features],
    score: Score | None = None,
    *,
    beside: Sequence[Score] = BESIDE,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Ranking:
    """Orders candidates by a score, the best first.

    Args:
        candidates: the features of each, by name: of the same student, prompts and projection.
        score: `Grace()` where nothing is said.
        beside: what else is told of each candidate.
        draws: of prompts, the same for all candidates.
        level: of the intervals, each by itself.
        seed: of the draws.

    Raises:
        NeedsError: two candidates cannot be compared.
        DataError: there is no candidate, or only one prompt.
    """
    expect_comparable(candidates)
    return ordered(
        candidates,
        Grace() if score is None else score,
        beside,
        cautions_about(candidates),
        Draws(len(next(iter(candidates.values())).every_prompt), draws, seed),
        level,
    )


def ordered(
    candidates: Mapping[str, Features],
    score: Score,
    beside: Sequence[Score],
    cautions: tuple[str, ...],
    draws: Draws,
    level: float = LEVEL,
) -> Ranking:
    """The ranking of candidates that somebody found comparable; see `rank`."""
    names, every = list(candidates), list(candidates.values())
    values = [score.value(features) for features in every]
    left_out = [score.left_out(features) for features in every]
    drawn = np.stack([draws.around(*each) for each in zip(values, left_out, strict=True)], axis=1)
    sign = 1 if score.better == "lower" else -1
    order = sorted(range(len(names)), key=lambda i: sign * values[i])
    differences = {
        names[i]: {
            names[j]: percentile(values[i] - values[j], drawn[:, i] - drawn[:, j], level)
            for j in order[place + 1 :]
        }
        for place, i in enumerate(order)
    }
    best = best_shares(drawn, score.better)
    ranked = (
        Ranked(
            name=names[i],
            score=_where_it_lives(percentile(values[i], drawn[:, i], level), score),
            probability_best=float(best[i]),
            tied=tuple(names[j] for j in order if _are_tied(differences, names[i], names[j])),
            beside={other.name: other.value(every[i]) for other in beside},
            published_scale=every[i].probe.published_scale,
        )
        for i in order
    )
    prompts, leader = len(every[0].every_prompt), names[order[0]]
    by_name = dict(zip(names, values, strict=True))
    if score.name in POSITIVE and (
        barely := caution_about_lead(score, candidates, differences[leader], by_name)
    ):
        cautions = (*cautions, barely)
    return Ranking(score.name, score.better, tuple(ranked), differences, cautions, prompts)


def _where_it_lives(interval: Interval, score: Score) -> Interval:
    """Without limits below 0 where no score of its kind is: draws of influences may overshoot."""
    return interval._replace(low=max(0.0, interval.low)) if score.name in POSITIVE else interval


def expect_some(candidates: Mapping[str, Features]) -> None:
    """Raises `DataError` where there is no candidate."""
    if not candidates:
        raise DataError("no candidate was given", "there is nobody to rank", "Name at least one.")


def expect_comparable(candidates: Mapping[str, Features]) -> None:
    """Raises `NeedsError` naming the first candidate that differs from the first of all."""
    expect_some(candidates)
    (_, first), *others = candidates.items()
    for name, features in others:
        first.expect_comparable(features, name)


def best_shares(drawn: Float64[np.ndarray, "b k"], better: Better) -> Float64[np.ndarray, " k"]:
    """The share of draws in which each candidate is the best; equals share a draw."""
    best = drawn.min(axis=1) if better == "lower" else drawn.max(axis=1)
    there = drawn == best[:, None]
    return (there / there.sum(axis=1, keepdims=True)).mean(axis=0)


def _are_tied(differences: Mapping[str, Mapping[str, Interval]], first: str, second: str) -> bool:
    held = differences[first].get(second) or differences[second].get(first)
    return held is not None and not held.excludes_zero
