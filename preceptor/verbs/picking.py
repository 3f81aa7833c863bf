"""Who teaches a run whose candidates were ranked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from preceptor.recipe.ranked import RankFields, named
from preceptor.selection.choices import ensemble
from preceptor.selection.decisions import cautions_about_together, choice_in_words, succession
from preceptor.selection.racing import Dropped
from preceptor.selection.ranking import Ranking
from preceptor.verbs.chosen import Chosen, left_out


@final
@dataclass(frozen=True)
class Picking:
    """Who teaches, of those admitted: one of each teacher's candidates at most."""

    fields: RankFields
    ranking: Ranking
    admitted: Sequence[str]
    chosen: Chosen
    dropped: Sequence[Dropped]

    def now(self, before: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
        """Their names, and the sentence that says why; `before` are those who taught until now."""
        whose = {at: name for name, said in self.fields.of.items() for at in named(name, said)}
        most, admitted = self.fields.ensemble, self.admitted
        first = ensemble(self.ranking, most, among=admitted, family=whose)
        if before:
            then = succession(self.ranking, before, first, whose)
            return then.names, then.sentence
        passed = any(name not in admitted for name in self.chosen.admitted)
        why = ["within the limit"] if self.chosen.beyond else []
        why += ["whose answers are no guess"] if passed else []
        count = len(self.dropped)
        return first, choice_in_words(self.ranking, first, admitted, why, count)

    def cautions(self, names: Sequence[str]) -> Iterator[str]:
        """What speaks against their teaching together."""
        gone = [each.name for each in self.dropped]
        missing = left_out(self.ranking, self.admitted, self.chosen.beyond, gone)
        return cautions_about_together(self.ranking, names, self.fields.ensemble, missing)


def passed_over(admitted: Sequence[str], able: Sequence[str]) -> list[str]:
    """What there is to say of those whose answers are nearly a guess."""
    if not able:
        return [
            "No candidate is passed over, for the answers of all are nearly a guess: the choice "
            "among them says little, and a longer trained teacher would say more."
        ]
    if able[0] != admitted[0]:
        return [f"{admitted[0]} is passed over: its answers are nearly a guess."]
    return []
