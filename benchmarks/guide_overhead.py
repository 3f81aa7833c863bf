"""What a start costs while the student learns: nothing, since it is over before the first step."""

from dataclasses import replace

from guide_language import Course, Language
from paired import Claim, at_most, paired

BOUND = 1.03
"""Of the ratio of processor times; the rest is what a shared machine adds."""

_STEPS = 1_000_000


def overhead(language: Language, width: int, rounds: int) -> Claim:
    """A step of a student that began inside its teacher, over one that began at random."""

    def steps(start: str) -> object:
        course = replace(Course(start, True, width, _STEPS, 1e-3, 0), tied=language.tied)
        stream = language.steps_of(course, language.begun(course))
        # The first steps also measure shares of the gradient.
        for _ in range(5):
            next(stream)
        return stream

    inside, random = steps("guide"), steps("random")
    found = paired(lambda: _few(inside), lambda: _few(random), rounds=rounds)
    return at_most("a KD step after a start over one without, CPU time", found.ratio("cpu"), BOUND)


def _few(stream: object) -> None:
    for _ in range(5):
        next(stream)  # pyright: ignore[reportArgumentType, reportCallIssue]
