"""What a ranking is for: choosing one candidate, or one of each sort, or a few together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

from preceptor.errors import DataError, nearest
from preceptor.selection.ranking import Ranking


@final
@dataclass(frozen=True)
class Choice:
    """A candidate, and those admitted that cannot be told from it.

    Args:
        name: the candidate's.
        score: what it was chosen for.
        tied: others that were admitted and may be as good, best first.
        among: how many were admitted.
        dropped: how many more a race had dropped before.
    """

    name: str
    score: float
    tied: tuple[str, ...]
    among: int
    dropped: int = 0

    @property
    def sentence(self) -> str:
        """The choice in words."""
        if self.among + self.dropped == 1:
            return f"{self.name} is the only one admitted."
        of = f"{self.among + self.dropped}"
        of += f", of which a race dropped {self.dropped}" if self.dropped else ""
        if not self.tied:
            return f"{self.name} is the best of {of}."
        others = ", ".join(self.tied)
        return (
            f"{self.name} has the best score of {of}, but cannot be told from {others} on these "
            "prompts."
        )


def best(ranking: Ranking, among: Iterable[str] | None = None, dropped: int = 0) -> Choice:
    """The best of all, or of some; `dropped` more had been, which a race left behind.

    Raises:
        DataError: nobody is admitted, or a name is not ranked.
    """
    admitted = ranking.names if among is None else tuple(among)
    _expect_ranked(ranking, admitted)
    if not admitted:
        raise DataError(
            f"a choice among none of {len(ranking.names)} candidates",
            "nobody was admitted",
            "Widen the limit, or rank further candidates.",
        )
    first, *_ = chosen = [each for each in ranking.candidates if each.name in admitted]
    tied = tuple(each.name for each in chosen if each.name in first.tied)
    return Choice(first.name, first.score.estimate, tied, len(chosen), dropped)


def best_within(ranking: Ranking, cost: Mapping[str, float], limit: float) -> Choice:
    """The best of those whose cost (parameters, memory, price a token) is at most `limit`.

    Raises:
        DataError: none is cheap enough, or a candidate's cost is not told.
    """
    _expect_told(ranking, cost, "a cost")
    admitted = [name for name in ranking.names if cost[name] <= limit]
    if not admitted:
        cheapest = min(ranking.names, key=lambda name: cost[name])
        raise DataError(
            f"the best candidate for at most {limit:g}",
            f"the cheapest, {cheapest}, costs {cost[cheapest]:g}",
            "Raise the limit, or rank cheaper candidates.",
        )
    return best(ranking, admitted)


def best_of_each(ranking: Ranking, family: Mapping[str, str]) -> dict[str, Choice]:
    """The best in each family, families in the order of their best.

    The temperatures of a teacher are a family too, named as the teacher.

    Raises:
        DataError: a candidate's family is not told.
    """
    _expect_told(ranking, family, "a family")
    families = dict.fromkeys(family[name] for name in ranking.names)
    return {
        each: best(ranking, [name for name in ranking.names if family[name] == each])
        for each in families
    }


def best_temperature(
    ranking: Ranking, temperatures: Mapping[str, float], dropped: int = 0
) -> tuple[float, Choice]:
    """The sampling temperature of the best of some candidates: one teacher's, one a temperature.

    GRACE falls and rises again: cold text repeats itself, and hot text has large gradients.

    Args:
        ranking: of these and perhaps others.
        temperatures: by the candidate that was sampled at it.
        dropped: how many further ones a race left behind.

    Raises:
        DataError: a name is not ranked.
    """
    choice = best(ranking, temperatures, dropped)
    return temperatures[choice.name], choice


def ensemble(
    ranking: Ranking,
    most: int,
    *,
    among: Iterable[str] | None = None,
    family: Mapping[str, str] | None = None,
    ties_alone: bool = False,
) -> tuple[str, ...]:
    """The top scorers, to teach together.

    Args:
        ranking: of at least one candidate.
        most: how many at most.
        among: those that are admitted; all where not given.
        family: whose each candidate is, where one of each is enough.
        ties_alone: whether one that is clearly behind the best of all stays out.

    Raises:
        DataError: `most` is below 1, or a name is not ranked.
    """
    if most < 1:
        raise DataError(f"an ensemble of {most}", "nobody would teach", "Ask for one at least.")

    admitted = ranking.names if among is None else tuple(among)
    _expect_ranked(ranking, admitted)
    if ties_alone:
        near = (ranking.best.name, *ranking.best.tied)
        admitted = tuple(name for name in admitted if name in near)
    first: dict[str, str] = {}
    for name in ranking.names:
        if name in admitted:
            first.setdefault(name if family is None else family[name], name)
    return tuple(first.values())[:most]


@final
@dataclass(frozen=True)
class Moved:
    """How a ranking changed while the student was trained.

    Args:
        spearman: the rank correlation of both orders; 1 where there is a single candidate.
        before: the best of the first.
        after: the best of the second.
        clearly: whether the former best is now told to be behind: reason to change the teacher.
        tied: whom the best of the second cannot be told from.
    """

    spearman: float
    before: str
    after: str
    clearly: bool
    tied: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The change in words."""
        told = f"rank correlation with the order before {self.spearman:.2f}"
        if self.before == self.after and self.tied:
            others = ", ".join(self.tied)
            return (
                f"{self.after} has the best score as before, and cannot be told from {others} "
                f"({told})."
            )
        if self.before == self.after:
            return f"{self.after} is the best as before ({told})."
        if not self.clearly:
            return (
                f"{self.after} has the best score, before it was {self.before}, which cannot be "
                f"told from it ({told}): no reason to change the teacher."
            )
        alike = f" (not told from {', '.join(self.tied)})" if self.tied else ""
        return (
            f"{self.after} has the best score{alike}, and {self.before}, the best before, is "
            f"clearly behind ({told}): change the teacher."
        )


def moved(before: Ranking, after: Ranking) -> Moved:
    """Two rankings of the same candidates by the same score, the student's weights apart.

    Raises:
        DataError: they have other candidates, or other scores.
    """
    if set(before.names) != set(after.names) or before.score != after.score:
        raise DataError(
            f"a ranking of {', '.join(before.names)} by {before.score} was to be followed by one "
            f"of {', '.join(after.names)} by {after.score}",
            "what moved is only known where both are the same",
            "Rank the same candidates by the same score again.",
        )
    count = len(before.names)
    squares = sum((i - after.names.index(name)) ** 2 for i, name in enumerate(before.names))
    correlation = 1 - 6 * squares / max(1, count * (count**2 - 1))
    former, latter = before.best.name, after.best.name
    clearly = former != latter and former not in after.best.tied
    return Moved(correlation, former, latter, clearly, after.best.tied)


def _expect_ranked(ranking: Ranking, names: Iterable[str]) -> None:
    for name in names:
        if name not in ranking.names:
            raise DataError(
                f"{name} is to be chosen from", "it is not ranked", _closest(name, ranking.names)
            )


def _expect_told(ranking: Ranking, told: Mapping[str, object], what: str) -> None:
    for name in ranking.names:
        if name not in told:
            raise DataError(
                f"{name} has no {what.split()[-1]}",
                f"{what} was told for {len(told)} candidates, and each that is ranked needs one",
                f"Tell {what} for {name}.",
            )


def _closest(name: str, names: Iterable[str]) -> str:
    return f"Nearest are {nearest(name, names)}."
