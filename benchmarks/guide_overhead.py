"""What a start costs while the student learns: nothing, since it is over before the first step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

from guide_language import Course, Language
from paired import Claim, Interval, at_most, paired

BOUND = 1.03
"""Of the ratio of processor times; what is above 1 is a shared machine's noise."""

_TOGETHER, _STEPS = 5, 1_000_000


@final
@dataclass(frozen=True)
class Overhead:
    """Steps of a student that began inside its teacher beside those of one that began at random.

    Args:
        width: of the students, which learn from the teacher.
        rounds: of five steps each.
    """

    width: int
    rounds: int

    def measured(self, language: Language) -> dict[str, Any]:
        """The ratio of processor times, with its interval."""
        inside, random = (self._steps(language, start) for start in ("guide", "random"))
        ratio = paired(inside, random, rounds=self.rounds).ratio("cpu")
        return {"ratio": list(ratio)}

    def _steps(self, language: Language, start: str) -> Callable[[], object]:
        course = Course(start, True, self.width, _STEPS, 1e-3, 0)
        steps: Iterator[object] = language.steps_of(course, language.begun(course))
        return lambda: [next(steps) for _ in range(_TOGETHER)]


def claim(found: dict[str, Any]) -> Claim:
    """Of what was measured: the bound of this script."""
    ratio = Interval(*found["ratio"])
    return at_most("a KD step after a start over one without, CPU time", ratio, BOUND)
