"""Racing: growing subsets of prompts, clear losers dropped early, and no prompt asked about twice.

A subset has fewer prompts, and GRACE rises as rows become few for the dimension. So a look at a
share of the prompts narrows the sketches to the same share of their dimension: dimension over rows
is what it will be in the end, and so is the penalty for few rows.

Dimension key: p prompts, k candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, final

import numpy as np
from annotated_types import Ge
from jaxtyping import Int64
from scipy import stats

from preceptor.errors import DataError
from preceptor.fields import Count, OpenFraction, check_ranges
from preceptor.selection.draws import standard_error
from preceptor.selection.features import Features, joined
from preceptor.selection.grace import Grace
from preceptor.selection.ranking import BESIDE, Ranking, expect_comparable, rank
from preceptor.selection.score import Score
from preceptor.selection.splits import shuffled

Ask = Callable[[str, Int64[np.ndarray, " p"]], Features]
"""Takes a candidate's features of some prompts"""


@final
@dataclass(frozen=True)
class Race:
    """When to look, and when to drop.

    At each look but the last, a candidate is dropped where the paired difference to the leader
    exceeds Student's limit times its jackknife standard error over prompts, one-sided, at `error`
    shared equally by all comparisons that the race may make (Bonferroni: looks times candidates but
    one). So the candidate that is best at the looks is dropped with a probability of at most
    `error`, as far as Student's limits hold: for some hundreds of prompts they do, and where a few
    gradients outweigh all others they do not. Limits so far out (0.001 and less) are not drawn, for
    that takes tens of thousands of draws.

    Args:
        first: prompts at the first look.
        growth: how many times as many at each further one.
        error: the chance that the best is dropped.
        seed: of the order of prompts, and of the last ranking's draws.
    """

    first: Count = 64
    growth: Annotated[int, Ge(2)] = 2
    error: OpenFraction = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self)

    def looks(self, prompts: int) -> tuple[int, ...]:
        """How many prompts each look has, the last one all.

        >>> Race(first=64).looks(500)
        (64, 128, 256, 500)
        """
        sizes: list[int] = []
        size = self.first
        while size < prompts:
            sizes.append(size)
            size *= self.growth
        return (*sizes, prompts)


@final
@dataclass(frozen=True)
class Dropped:
    """A candidate that a look left behind.

    Args:
        name: the candidate's.
        prompts: how many it was compared on.
        behind: the leader of that look.
    """

    name: str
    prompts: int
    behind: str


@final
@dataclass(frozen=True)
class Raced:
    """What a race found.

    Args:
        ranking: of those that answered all prompts.
        dropped: the others, the last to leave first.
        asked: prompts whose features were asked for, summed over candidates.
        without_racing: what a full ranking would have asked for.
    """

    ranking: Ranking
    dropped: tuple[Dropped, ...]
    asked: int
    without_racing: int

    @property
    def order(self) -> tuple[str, ...]:
        """All candidates: those ranked, then those dropped, the last to leave first."""
        return (*self.ranking.names, *(candidate.name for candidate in self.dropped))


def race(
    candidates: Sequence[str],
    prompts: Int64[np.ndarray, " p"],
    ask: Ask,
    score: Score | None = None,
    *,
    plan: Race | None = None,
    beside: Sequence[Score] = BESIDE,
) -> Raced:
    """Ranks candidates on all prompts, those left that were not dropped on fewer.

    Args:
        candidates: their names.
        prompts: all of them, each once; the order they are asked in is `plan`'s.
        ask: called with a candidate and the prompts that it has not been asked about. A
            `FeatureStore` a candidate makes a killed race go on.
        score: `Grace()` where nothing is said.
        plan: when to look.
        beside: what else is told of those that are left.

    Raises:
        DataError: candidates or prompts come twice, or there are none.
        NeedsError: two candidates cannot be compared.
    """
    score, plan = Grace() if score is None else score, plan or Race()
    _expect_distinct(candidates, prompts)
    order = prompts[shuffled(prompts, plan.seed)]
    looks = plan.looks(len(order))
    tail = plan.error / max(1, (len(looks) - 1) * (len(candidates) - 1))
    held: dict[str, Features] = {}
    left, dropped, asked, before = list(candidates), list[Dropped](), 0, 0
    for size in looks[:-1]:
        asked += _ask_for(held, left, order[before:size], ask)
        before = size
        leader, losers = _losers({name: held[name] for name in left}, score, tail, len(order))
        left = [name for name in left if name not in losers]
        dropped = [*(Dropped(name, size, leader) for name in losers), *dropped]
        if len(left) == 1:
            break
    asked += _ask_for(held, left, order[before:], ask)
    ranking = rank({name: held[name] for name in left}, score, beside=beside, seed=plan.seed)
    return Raced(ranking, tuple(dropped), asked, len(order) * len(candidates))


def _ask_for(
    held: dict[str, Features], left: Sequence[str], prompts: Int64[np.ndarray, " p"], ask: Ask
) -> int:
    for name in left:
        fresh = ask(name, prompts)
        held[name] = joined([held[name], fresh]) if name in held else fresh
    return len(left) * len(prompts)


def _losers(
    candidates: Mapping[str, Features], score: Score, tail: float, prompts: int
) -> tuple[str, list[str]]:
    """The leader, and who is clearly behind it, the best of them first."""
    expect_comparable(candidates)
    narrow = {name: _narrowed(features, prompts) for name, features in candidates.items()}
    sign = 1 if score.better == "lower" else -1
    values = {name: sign * score.value(features) for name, features in narrow.items()}
    leader, *others = sorted(values, key=lambda name: values[name])
    best = score.left_out(narrow[leader])
    limit = float(stats.t.isf(tail, len(best) - 1))
    losers: list[str] = []
    for name in others:
        error = standard_error(score.left_out(narrow[name]) - best)
        if values[name] - values[leader] > limit * error:
            losers.append(name)
    return leader, losers


def _narrowed(features: Features, prompts: int) -> Features:
    share = len(features.every_prompt) / prompts
    return features.narrowed(max(1, round(features.probe.dimension * share)))


def _expect_distinct(candidates: Sequence[str], prompts: Int64[np.ndarray, " p"]) -> None:
    for what, given in (("candidates", list(candidates)), ("prompts", prompts.tolist())):
        if not given or len(set(given)) < len(given):
            raise DataError(
                f"{len(given)} {what}, of them {len(set(given))} different, were to race",
                "each runs once, and at least one does",
                f"Give the {what} without repetition.",
            )
