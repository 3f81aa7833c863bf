"""White space around answers, and their line ends: marks of a file more often than of a teacher.

A student spends loss on them as on words, so that they alone can turn the order of two candidates.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

UNLIKE = 0.05
"""Shares of answers that differ by more than this are told."""


def stripped(text: str) -> str:
    r"""Without outer white space, and with line ends of one kind.

    >>> stripped("  1\r\n2\n\n")
    '1\n2'
    """
    return text.strip().replace("\r\n", "\n").replace("\r", "\n")


def white_space(answers: Mapping[str, Iterable[str]], mendable: Collection[str]) -> tuple[str, ...]:
    """Cautions about candidates whose answers have white space where others' have none.

    Args:
        answers: the texts of each candidate.
        mendable: those whose file may say `strip: true`.
    """
    found = {name: _Seen() for name in answers}
    for name, texts in answers.items():
        for text in texts:
            found[name].read(text)
    return tuple(
        f"{name}: {said}; white space alone moves a score. {_DO[name in mendable]}"
        for mark in _MARKS
        for name, said in _told({name: seen.marks[mark] for name, seen in found.items()}, mark)
    )


_MARKS = ("begin with white space", "end with white space", "have line ends other than '\\n'")
_DO = {
    True: "Say `strip: true` beside its `responses`, or leave it if it belongs to the answers.",
    False: "Mend the model's prompt or template, or leave it if it belongs to the answers.",
}


@final
@dataclass(frozen=True)
class _Seen:
    """How often a candidate's answers have each value of a mark; none is the empty text."""

    marks: Mapping[str, Counter[str]] = field(
        default_factory=lambda: {mark: Counter() for mark in _MARKS}
    )

    def read(self, text: str) -> None:
        inner = text.strip()
        before, after, ends = (self.marks[mark] for mark in _MARKS)
        before[text[: len(text) - len(text.lstrip())]] += 1
        after[text[len(text.rstrip()) :]] += 1
        if "\r" in inner:
            ends["\r\n" if "\r\n" in inner else "\r"] += 1
        elif "\n" in inner:
            ends[""] += 1


def _told(seen: Mapping[str, Counter[str]], mark: str) -> Iterator[tuple[str, str]]:
    """Whose values of a mark are unlike others', with the figures of it and of the least."""
    counted = {name: count for name, count in seen.items() if count}
    shares = {name: _having(count) / count.total() for name, count in counted.items()}
    unlike = len({_usual(count) for count in counted.values()}) > 1
    for name, count in counted.items():
        least = min(shares, key=lambda other: shares[other])
        if shares[name] > UNLIKE and (unlike or shares[name] - shares[least] > UNLIKE):
            other = counted[least]
            beside = f", where {least} has {_figures(other)}{_mostly(other)}"
            yield (
                name,
                f"{_figures(count)} answers {mark}{_mostly(count)}{beside * (name != least)}",
            )


def _having(count: Counter[str]) -> int:
    return count.total() - count[""]


def _usual(count: Mapping[str, int]) -> str:
    return max(count, key=lambda value: count[value])


def _figures(count: Counter[str]) -> str:
    return f"{_having(count):,} of {count.total():,}"


def _mostly(count: Counter[str]) -> str:
    """What they mostly have, as Python writes it."""
    values = {value: each for value, each in count.items() if value}
    return f" ({_usual(values)!r})" if values else ""
