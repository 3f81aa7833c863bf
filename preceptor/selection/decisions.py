"""Who teaches, told in the sentence that a reader sees first: the choice with what speaks against
it, and who stays when the student has moved."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from preceptor.selection.ranking import Ranked, Ranking


def choice_in_words(
    ranking: Ranking,
    names: Sequence[str],
    admitted: Sequence[str],
    why_not: Sequence[str] = (),
    dropped: int = 0,
) -> str:
    """Who was chosen, why not the best of all, and who may be as good or is better.

    Args:
        ranking: of at least one candidate.
        names: who was chosen, the best first.
        admitted: those that could be.
        why_not: what all that were admitted have and others lack, such as "within the limit".
        dropped: how many more a race had dropped before.

    Returns:
        A sentence without its end.
    """
    first, count = _of(ranking, names[0]), len(ranking.names) + dropped
    if count == 1:
        return f"{first.name} is the only candidate"
    several = len(names) > 1
    said = " and ".join(names) + (" were" if several else " was") + f" chosen from {count}"
    said += f" candidates, of which a race dropped {dropped}" if dropped else " candidates"
    if why_not:
        left = len(admitted)
        place = "the only one" if left == 1 else f"the best of the {left}"
        if several and left == len(names):
            place = f"the {left}"
        said += f", {place} {' and '.join(why_not)}"
    leader = ranking.best
    near = [name for name in first.tied if name not in names]
    it = first.name if several else "it"
    if first.name != leader.name and leader.name not in first.tied:
        said += f"; {it} is clearly behind {leader.name}"
    if near:
        said += f"; {it} cannot be told from {', '.join(near)}"
    return said


def cautions_about_together(
    ranking: Ranking, names: Sequence[str], asked: int, missing: str = ""
) -> Iterator[str]:
    """That fewer teach together than were asked for, and who is clearly behind the first of them.

    Args:
        ranking: of them and perhaps others.
        names: who teaches, the best first.
        asked: how many were to.
        missing: who was left out and why, in words.
    """
    if asked == 1:
        return
    if len(names) < asked:
        count = "1 teaches" if len(names) == 1 else f"{len(names)} teach"
        yield f"{asked} were to teach together, and {count}{f' ({missing})' if missing else ''}."
    first = _of(ranking, names[0])
    for other in (_of(ranking, name) for name in names[1:]):
        if other.name not in first.tied:
            yield (
                f"{other.name} is to teach beside {first.name} and is clearly behind it "
                f"({ranking.score} {other.score.estimate:.4g} against {first.score.estimate:.4g}): "
                f"together they may teach worse than {first.name} alone. Ask for fewer (ensemble)."
            )


@final
@dataclass(frozen=True)
class Succession:
    """Who teaches after the student has moved.

    Args:
        names: who does.
        stayed: by one that stays, whoever has the better score now and cannot be told from it.
        came: by one that is new, in whose place it is.
    """

    names: tuple[str, ...]
    stayed: Mapping[str, str]
    came: Mapping[str, str]

    @property
    def sentence(self) -> str:
        """In words, without the end of a sentence."""
        said = [
            f"{old} goes on teaching, for it cannot be told from {new}, which has the better score "
            "now"
            for old, new in self.stayed.items()
        ]
        said += [
            f"{new} takes over from {old}, which is clearly behind it now"
            for new, old in self.came.items()
        ]
        if not said:
            one = len(self.names) == 1
            goes, has = ("goes", "has the best score") if one else ("go", "have the best scores")
            return f"{' and '.join(self.names)} {goes} on teaching and {has} as before"
        return "; ".join(said)


def succession(
    ranking: Ranking,
    before: Sequence[str],
    chosen: Sequence[str],
    family: Mapping[str, str],
) -> Succession:
    """The former teachers, but for those that are clearly behind whoever would take their place.

    Args:
        ranking: of the student as it is now.
        before: who taught until now.
        chosen: who would, had nobody taught before; of as many, the best first.
        family: whose each candidate is: one of each teaches at most.
    """
    leaving = [name for name in ranking.names if name in before and name not in chosen]
    coming = [name for name in chosen if name not in before]
    places: dict[str, str] = {}
    for old in leaving:
        new = next((name for name in coming if family[name] == family[old]), None)
        if new is not None:
            places[new] = old
    others = [old for old in leaving if old not in places.values()]
    free = [new for new in coming if new not in places]
    places |= dict(zip(reversed(free), reversed(others), strict=False))
    stayed = {old: new for new, old in places.items() if old in _of(ranking, new).tied}
    came = {new: old for new, old in places.items() if old not in stayed}
    replaced = {new: old for old, new in stayed.items()}
    names = tuple(replaced.get(name, name) for name in chosen)
    same = set(names) == set(before)
    return Succession(tuple(before) if same else names, stayed, came)


def _of(ranking: Ranking, name: str) -> Ranked:
    return next(each for each in ranking.candidates if each.name == name)
