"""Arms of one experiment: the same student, data and steps under several seeds.

Learning rates are chosen on validation data, under a seed that is no run's, among the same values
for every arm; where students of several sizes are compared, once, in one setting.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from guide_cells import Cells
from guide_gap import Curve, Scores, speed_up

TUNING = 100
"""The seed under which learning rates are chosen."""


class Unfinished(Exception):
    """A cell is asked for that is not there, and nothing is to be computed."""


@final
@dataclass(frozen=True)
class Judged:
    """Whose test numbers a cell holds: a teacher's."""

    teacher: str


@final
@dataclass(frozen=True)
class Experiment:
    """Courses that are run once, and what is known of them.

    Args:
        name: for a reader.
        cells: where results are kept.
        run: one course to its result: "test" one number an item, "curve" the validation loss after
            so many steps, "seconds" of processor time.
        judge: a teacher's test numbers.
        rates: learning rates to choose among.
        tuned_at: the fields of a course in which rates are chosen, where a course may differ.
        computes: whether what is missing is computed.
    """

    name: str
    cells: Cells
    run: Callable[[Any], dict[str, Any]]
    judge: Callable[[Any], Sequence[float]]
    rates: tuple[float, ...]
    tuned_at: Mapping[str, Any] = field(default_factory=dict)
    computes: bool = True

    def result(self, course: Any) -> dict[str, Any]:
        """A course's result."""
        if not self.computes and self.cells.find(course) is None:
            raise Unfinished
        return self.cells.once(course, lambda: self.run(course))

    def trials(self, course: Any) -> dict[float, dict[str, Any]]:
        """Learning rate -> result, under the seed for that."""
        usual = replace(course, seed=TUNING, **self.tuned_at)
        return {rate: self.result(replace(usual, rate=rate)) for rate in self.rates}

    def tuned(self, course: Any) -> Any:
        """The course at the learning rate with the lowest last validation loss."""
        if len(self.rates) == 1:
            return replace(course, rate=self.rates[0])
        trials = self.trials(course)
        return replace(course, rate=min(trials, key=lambda rate: trials[rate]["curve"][-1][1]))

    def under(self, course: Any, seed: int) -> dict[str, Any]:
        """The result at the tuned rate."""
        return self.result(replace(self.tuned(course), seed=seed))

    def teacher(self, course: Any) -> Scores:
        """The teacher's test numbers, [1, items]; it is there where its students are."""
        who = "/".join([self.name, *(str(getattr(course, n, "")) for n in ("vocabulary", "tied"))])
        found = self.cells.once(Judged(who), lambda: {"test": list(self.judge(course))})
        return np.array([found["test"]])

    def common(self, courses: Sequence[Any], seeds: Sequence[int]) -> list[int]:
        """The seeds under which all of some courses are finished."""
        return [seed for seed in seeds if all(self._done(course, seed) for course in courses)]

    def _done(self, course: Any, seed: int) -> bool:
        try:
            return self.cells.find(replace(self.tuned(course), seed=seed)) is not None
        except Unfinished:
            return False

    def scores(self, course: Any, seeds: Sequence[int]) -> Scores:
        """Test numbers, [seeds, items]."""
        return np.array([self.under(course, seed)["test"] for seed in seeds])

    def curves(self, course: Any, seeds: Sequence[int]) -> Iterator[Curve]:
        """Validation losses while training."""
        for seed in seeds:
            yield [(step, loss) for step, loss in self.under(course, seed)["curve"]]

    def speed_ups(self, course: Any, baseline: Any, seeds: Sequence[int]) -> list[float | None]:
        """Tokens to the baseline's last validation loss, the baseline's over the course's own."""
        both = zip(self.curves(course, seeds), self.curves(baseline, seeds), strict=True)
        return [speed_up(*pair) for pair in both]
