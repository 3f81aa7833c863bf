"""Two ways to do one thing, timed side by side on a machine that is never quiet.

Each round runs both once, in an order drawn anew, right after one another, so that what a
neighbour does to one it mostly does to the other. A round gives one ratio; the answer is the
median of the ratios, with a bootstrap interval. Times are taken twice: by the wall, and as the
processor time of this process, which waits for nobody and says more on a shared machine. With one
thread the two agree where nothing else runs.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

Clock = Literal["cpu", "wall"]
Times = NDArray[np.float64]

_DRAWS = 10_000


class Interval(NamedTuple):
    """A median and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Rounds:
    """What was measured: seconds a round by each clock, [rounds, 2], first and second."""

    cpu: Times
    wall: Times

    def ratio(self, clock: Clock) -> Interval:
        """The first's time over the second's."""
        seconds = self.seconds(clock)
        return median_interval(seconds[:, 0] / seconds[:, 1])

    def seconds(self, clock: Clock) -> Times:
        """[rounds, 2]."""
        return self.cpu if clock == "cpu" else self.wall

    def medians(self, clock: Clock) -> tuple[float, float]:
        """The median seconds of a round, first and second."""
        first, second = np.median(self.seconds(clock), axis=0)
        return float(first), float(second)


@dataclass(frozen=True)
class Claim:
    """One line of a script's answer; what is None is left out of it, but for `bound`.

    `bound` is None where nothing is promised in a number, `holds` where nothing is promised at all.
    A `target` was aimed at: whether it was `reached` is told, and fails nothing.
    """

    claim: str
    value: float
    low: float
    high: float
    bound: float | None
    holds: bool | None
    target: float | None = None
    reached: bool | None = None


def paired(
    first: Callable[[], object], second: Callable[[], object], *, rounds: int, seed: int = 0
) -> Rounds:
    """Time both once a round, in random order, after one round that does not count."""
    generator = np.random.default_rng(seed)
    both = (first, second)
    for each in both:
        each()
    cpu, wall = np.empty((rounds, 2)), np.empty((rounds, 2))
    for number in range(rounds):
        for which in generator.permutation(2):
            cpu[number, which], wall[number, which] = timed(both[which])
    return Rounds(cpu, wall)


def timed(once: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processor time, and by the wall."""
    wall, cpu = time.perf_counter(), time.process_time()
    once()
    return time.process_time() - cpu, time.perf_counter() - wall


def peak_mib(step: Callable[[], object]) -> float:
    """MiB allocated at once in a step beyond what was there, by the allocator's records."""
    # The profiler's own lines are no part of the answer; torch is asked late, for not all need it.
    os.environ["KINETO_LOG_LEVEL"] = "99"
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    assert seen.profiler is not None
    found = seen.profiler.kineto_results
    assert found is not None
    events: list[Any] = [event for event in found.events() if event.name() == "[memory]"]
    held = top = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        top = max(top, held)
    return top / 2**20


def median_interval(values: Sequence[float] | Times) -> Interval:
    """The median with a percentile bootstrap interval over the rounds."""
    values = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    low, high = np.quantile(np.median(values[drawn], axis=1), (0.025, 0.975))
    return Interval(float(np.median(values)), float(low), float(high))


def at_most(claim: str, found: Interval, bound: float) -> Claim:
    """A claim that holds where the median does not exceed the bound."""
    return Claim(claim, *found, bound=bound, holds=found.value <= bound)


def reported(
    claim: str,
    found: Sequence[float],
    target: float | None = None,
    reached: bool | None = None,
) -> Claim:
    """A value with its interval that is told and not promised; with a target, whether it is met."""
    value, low, high = found
    return Claim(claim, value, low, high, None, None, target, reached)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns of words; all but the first are aligned to the right."""
    cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def conclude(claims: Sequence[Claim]) -> NoReturn:
    """Print one JSON line a claim and leave, with 1 where a bound does not hold."""
    for claim in claims:
        told = {k: v for k, v in asdict(claim).items() if v is not None or k == "bound"}
        print(json.dumps({k: _short(v) for k, v in told.items()}))
    sys.exit(1 if any(claim.holds is False for claim in claims) else 0)


def _short(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
