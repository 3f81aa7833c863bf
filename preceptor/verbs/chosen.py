"""What a ranking's recipe chooses from the order."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import final

from preceptor.recipe.ranked import named
from preceptor.recipe.ranking import RankingRecipe
from preceptor.selection.choices import (
    Choice,
    best,
    best_of_each,
    best_temperature,
    best_within,
    ensemble,
)
from preceptor.selection.decisions import cautions_about_together
from preceptor.selection.ranking import Ranking


@final
@dataclass(frozen=True)
class Chosen:
    """The choices that were asked for.

    Args:
        best: of all.
        able: of those whose answers are no guess; None where all or none are.
        within: of those whose cost is within the limit.
        families: of each family.
        temperatures: the best temperature of each teacher that has several.
        heated: which of such a teacher's candidates that is, and whom it cannot be told from.
        ensemble: the top scorers of those admitted, without those that nearly guess.
        cautions: what speaks against them.
        admitted: those whose cost is within the limit, in order; all where there is none.
        beyond: those whose cost is above it.
    """

    best: Choice
    able: Choice | None = None
    within: Choice | None = None
    families: dict[str, Choice] = field(default_factory=dict)
    temperatures: dict[str, float] = field(default_factory=dict)
    heated: dict[str, Choice] = field(default_factory=dict)
    ensemble: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    admitted: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """In words."""
        alone = self.best.among + self.best.dropped == 1
        only = f"{self.best.name} is the only candidate, and was compared with nobody."
        told = [only if alone else f"Best: {self.best.sentence}"]
        if self.able is not None:
            told.append(f"Without those that nearly guess: {self.able.sentence}")
        if self.within is not None:
            beyond = f" Beyond it: {', '.join(self.beyond)}." if self.beyond else ""
            told.append(f"Within the limit: {self.within.sentence}{beyond}")
        told += [f"Of {family}: {choice.sentence}" for family, choice in self.families.items()]
        told += [f"Temperatures of {n}: {choice.sentence}" for n, choice in self.heated.items()]
        if self.ensemble:
            told.append(f"Together: {', '.join(self.ensemble)}.")
        return told


def chosen(
    said: RankingRecipe,
    ranking: Ranking,
    cost: Mapping[str, float] | None,
    dropped: Collection[str] = (),
    guessing: Collection[str] = (),
) -> Chosen:
    """The choices that a recipe asks for.

    Args:
        said: the recipe.
        ranking: whom it is chosen from.
        cost: of each teacher, where there is a limit.
        dropped: whom a race left behind.
        guessing: whose answers are nearly a guess.

    Raises:
        DataError: no candidate is within the limit.
    """
    asked, whose = said.choose, said.candidates.families()
    within, admitted = None, ranking.names
    if asked.limit is not None and cost is not None:
        each = {name: cost[whose[name]] for name in ranking.names}
        within = best_within(ranking, each, asked.limit)
        admitted = tuple(name for name in admitted if each[name] <= asked.limit)
    families: dict[str, Choice] = {}
    if asked.families:
        family = {name: asked.families[whose[name]] for name in ranking.names}
        families = best_of_each(ranking, family)
    temperatures, heated = dict[str, float](), dict[str, Choice]()
    for name, teacher in said.candidates.teachers.items():
        left = {at: t for at, t in named(name, teacher).items() if at in ranking.names}
        if len(teacher.temperatures) > 1 and left:
            gone = sum(whose[each] == name for each in dropped)
            temperatures[name], heated[name] = best_temperature(ranking, left, gone)
    able = [name for name in ranking.names if name not in guessing]
    beyond = [name for name in ranking.names if name not in admitted]
    together, cautions = tuple[str, ...](), list[str]()
    if asked.ensemble:
        left = [name for name in admitted if name in able] or admitted
        together = ensemble(ranking, asked.ensemble, among=left)
        missing = left_out(ranking, left, beyond, dropped)
        cautions = [*cautions_about_together(ranking, together, asked.ensemble, missing)]
    return Chosen(
        best=best(ranking, dropped=len(dropped)),
        able=best(ranking, able) if 0 < len(able) < len(ranking.names) else None,
        within=within,
        families=families,
        temperatures=temperatures,
        heated=heated,
        ensemble=together,
        cautions=tuple(cautions),
        admitted=admitted,
        beyond=tuple(beyond),
    )


def left_out(
    ranking: Ranking, left: Collection[str], beyond: Collection[str], dropped: Collection[str]
) -> str:
    """Why candidates cannot teach, in words; empty where all can.

    Args:
        ranking: of those that a race did not drop.
        left: who can.
        beyond: whose cost is above the limit.
        dropped: whom a race left behind.
    """
    others = [name for name in ranking.names if name not in left and name not in beyond]
    reasons = {"beyond the limit": beyond, "nearly a guess": others, "dropped by a race": dropped}
    return "; ".join(f"{why}: {', '.join(names)}" for why, names in reasons.items() if names)
