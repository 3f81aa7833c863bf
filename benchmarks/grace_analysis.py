"""How well scores taken before training told which teacher's student would come out best.

Dimension key: s seeds, t teachers, n test problems, d draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from preceptor.ops.resampling import DRAWS, Interval, percentile

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What one architecture's students were scored and how they came out.

    Args:
        teachers: the names, t of them.
        scores: by selector, [s, t], turned so that higher is said to be better.
        accuracy: each student's share of right answers to each test problem, [s, t, n].
    """

    teachers: tuple[str, ...]
    scores: Mapping[str, Numbers]
    accuracy: Numbers

    def of(self, names: Sequence[str]) -> "Outcomes":
        """Of some of the teachers."""
        at = [self.teachers.index(name) for name in names]
        scores = {selector: held[:, at] for selector, held in self.scores.items()}
        return Outcomes(tuple(names), scores, self.accuracy[:, at])

    @property
    def reached(self) -> Numbers:
        """Each teacher's student's accuracy, its seeds' mean, 0 to 1 [t]."""
        return self.accuracy.mean(axis=(0, 2))

    def chosen(self, selector: str) -> NDArray[np.intp]:
        """Whom a selector's mean over seeds puts first; several where they are equal."""
        mean = self.scores[selector].mean(axis=0)
        return np.flatnonzero(mean == mean.max())

    def regret(self, selector: str) -> float:
        """The best student's accuracy less that of the chosen teacher's, 0 to 1; see `chosen`."""
        return float(self.reached.max() - self.reached[self.chosen(selector)].mean())

    def correlation(self, selector: str, draws: int = DRAWS, seed: int = 0) -> Interval:
        """Spearman's rho of a selector's and the students' means over seeds.

        The interval is the percentiles' of draws of teachers, seeds and test problems at once, each
        with replacement; draws of fewer than three teachers, or of equal ones, do not count.
        """
        generator, score = np.random.default_rng(seed), self.scores[selector]
        seeds, teachers, items = self.accuracy.shape
        found: list[float] = []
        for _ in range(draws):
            some = generator.integers(seeds, size=seeds)
            which = generator.integers(teachers, size=teachers)
            asked = generator.multinomial(items, np.full(items, 1 / items)) / items
            reached = (self.accuracy[some] @ asked).mean(axis=0)[which]
            rho = spearman(score[some].mean(axis=0)[which], reached)
            if len(set(which.tolist())) > 2 and not np.isnan(rho):
                found.append(rho)
        rho = spearman(score.mean(axis=0), self.reached)
        return percentile(rho, np.array(found or [float("nan")]))


def spearman(first: Numbers, second: Numbers) -> float:
    """Pearson's correlation of mid-ranks; NaN where one side never varies.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 9.0, 4.0]))
    0.5
    """
    ranks = [rankdata(each) - (len(each) + 1) / 2 for each in (first, second)]
    under = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float(ranks[0] @ ranks[1] / under) if under else float("nan")


def mean_regret(outcomes: Outcomes, groups: Sequence[Sequence[str]], selector: str) -> float:
    """The mean over groups of teachers of the regret of choosing within one."""
    each = [outcomes.of(group).regret(selector) for group in groups]
    return float(np.mean(each)) if each else float("nan")


def mean_correlation(outcomes: Outcomes, groups: Sequence[Sequence[str]], selector: str) -> float:
    """The mean over groups of rho within one; groups where a side never varies do not count."""
    each = [outcomes.of(group) for group in groups]
    found = [spearman(g.scores[selector].mean(axis=0), g.reached) for g in each]
    known = [rho for rho in found if not np.isnan(rho)]
    return float(np.mean(known)) if known else float("nan")
