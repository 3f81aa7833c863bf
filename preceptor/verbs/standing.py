"""A ranking as a terminal shows it."""

from collections.abc import Iterator, Sequence

from preceptor.evaluate.tables import text_table, wrapped
from preceptor.selection.ranking import Ranking
from preceptor.verbs.ranked import Later, Rank

_ACROSS = 5
"""Further scores side by side, so that a table has room in a terminal."""


def standing(found: Rank) -> str:
    """Tables, choices and cautions as plain text; cautions begin with "!"."""
    ranking = found.ranking
    parts = [_order(ranking), "", *_beside(ranking)]
    parts += [wrapped(sentence) for sentence in found.chosen.sentences()]
    parts += [wrapped(sentence) for sentence in found.raced]
    if found.students is not None:
        parts += ["", f"Students, by what {ranking.best.name} wrote:", _order(found.students)]
        parts += [*_warned(found.students.cautions, found.students.names), ""]
    parts += [line for each in found.later for line in _later(each)]
    parts += [wrapped(note) for note in found.notes]
    parts += _warned(found.cautions, ranking.names)
    return "\n".join([*parts, _passes(found.taken)])


def _passes(taken: int) -> str:
    if not taken:
        return "All gradients were there: no pass over the student."
    return f"Gradients were taken of {taken:,} prompts, counted for each candidate and student."


def _later(found: Later) -> list[str]:
    return ["", f"The student in {found.student}:", _order(found.ranking), found.moved.sentence]


def _warned(cautions: Sequence[str], names: Sequence[str]) -> list[str]:
    return [wrapped(f"! {caution}") for caution in together(cautions, names)]


def together(cautions: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The same sentence about several candidates once."""
    whose: dict[str, list[str]] = {}
    for caution in cautions:
        name = next((name for name in names if caution.startswith(f"{name} ")), "")
        whose.setdefault(caution.removeprefix(name), []).append(name)
    for rest, said_of in whose.items():
        several = len(said_of) > 1
        yield f"{', '.join(said_of)}: each{rest}" if several else f"{said_of[0]}{rest}"


def _order(ranking: Ranking) -> str:
    places = {name: str(place) for place, name in enumerate(ranking.names, start=1)}
    lines = [["", "candidate", ranking.score, "95 % of draws", "best", "not told from"]]
    for each in ranking.candidates:
        score = each.score
        limits = f"{score.low:.4g} to {score.high:.4g}"
        tied = ", ".join(places[name] for name in each.tied)
        share = f"{100 * each.probability_best:.0f} %" if len(places) > 1 else ""
        lines.append([places[each.name], each.name, f"{score.estimate:.4g}", limits, share, tied])
    head = f"{ranking.prompts} prompts; of {ranking.score}, {ranking.better} is better"
    return f"{head}\n\n{text_table(lines)}"


def _beside(ranking: Ranking) -> Iterator[str]:
    names = list(ranking.best.beside)
    for start in range(0, len(names), _ACROSS):
        shown = names[start : start + _ACROSS]
        lines = [["candidate", *(name.replace("_", " ") for name in shown)]]
        lines += [
            [each.name, *(f"{each.beside[name]:.4g}" for name in shown)]
            for each in ranking.candidates
        ]
        yield f"{text_table(lines)}\n"
