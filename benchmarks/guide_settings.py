"""Which students are trained: the arms of each experiment, and where GUIDE is looked at closely."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

from guide_images import ImageCourse
from guide_language import STARTS, Course
from guide_sentences import SentenceCourse

BEST = "project, repair"
"""The start that gained most where all were tried first, on validation."""

CUT = (
    ("random", False),
    ("random", True),
    *((start, taught) for start in ("select, repair", "prune, repair") for taught in (False, True)),
)
"""Where channels see one another apart, so that only selection is exact."""


@final
@dataclass(frozen=True)
class Settings:
    """What is trained.

    Args:
        widths, budgets: the grid: students' widths, and optimizer steps.
        width, steps: where arms, bases, vocabularies and learning rates are compared.
        seeds: of every arm.
        vocabularies: the usual one first.
        long: steps of one more budget, at `width` alone.
        pulls: of the embeddings, tried with `guide`.
        networks: students of the convolutional network, and steps.
    """

    widths: tuple[int, ...]
    budgets: tuple[int, ...]
    width: int
    steps: int
    seeds: tuple[int, ...]
    vocabularies: tuple[int, ...]
    long: int = 1080
    pulls: tuple[float, ...] = (0.1, 1.0)
    networks: tuple[tuple[str, int], ...] = (
        ("cnn-small", 300),
        ("cnn-small", 40),
        ("half as wide", 300),
        ("half as wide", 40),
    )

    def course(self, start: str, taught: bool) -> Course:
        """A language model at the usual place; its rate and seed are set later."""
        return Course(start, taught, self.width, self.steps, 0.0, 0)

    def language(self) -> list[Course]:
        """The arms of the language model."""
        return [*self.four("guide"), *self.four(BEST)[2:]]

    def images(self, student: str, steps: int) -> list[ImageCourse]:
        """The arms of one convolutional network."""
        each = (*CUT, ("select", False), ("prune", False))
        return [ImageCourse(*arm, 0.0, 0, steps, student) for arm in each]

    def sentences(self) -> list[SentenceCourse]:
        """The arms of the encoder."""
        return [SentenceCourse(*arm, 0.0, 0) for arm in CUT]

    def bases(self) -> list[Course]:
        """Every start, untaught; GUIDE's also with its embeddings held."""
        each = [self.course(start, False) for start in STARTS]
        return [*each, *(replace(self.course("guide", False), pull=pull) for pull in self.pulls)]

    def four(self, start: str, **fields: object) -> list[Course]:
        """Neither, KD alone, the start alone, both, anywhere."""
        each = [(name, taught) for name in ("random", start) for taught in (False, True)]
        return [replace(self.course(*arm), **fields) for arm in each]

    def grid(self) -> Iterator[Course]:
        """GUIDE's four arms at every size and budget."""
        for steps in self.budgets:
            for width in self.widths:
                yield from self.four("guide", width=width, steps=steps)

    def beside(self) -> Iterator[Course]:
        """GUIDE's four arms with other vocabularies and a tied head; the best start's two arms."""
        for vocabulary in self.vocabularies[1:]:
            yield from self.four("guide", vocabulary=vocabulary)
        yield from self.four("guide", tied=True)
        for width in self.widths:
            yield from self.four(BEST, width=width)[2:]
        for steps in self.budgets:
            yield from self.four(BEST, steps=steps)[2:]

    def longest(self) -> list[Course]:
        """GUIDE and the best start over the longest budget."""
        return [*self.four("guide", steps=self.long), *self.four(BEST, steps=self.long)[2:]]
