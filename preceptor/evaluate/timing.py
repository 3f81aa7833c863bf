"""Seconds of models that were timed in turns, and intervals of what is read from them.

What measures them is `cost`; here nothing is run.

Dimension key: r rounds, d draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from preceptor.errors import DataError
from preceptor.ops.resampling import DRAWS, Interval, percentile

_LEAST = 1e-6
"""Seconds that no tokens are written in."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one warm forward pass of each model, round by round, taken in turns.

    `tokens` counts those of the batch that are no padding; 0 where the inputs are no tokens.
    """

    seconds: Mapping[str, Float[np.ndarray, " r"]]
    batch: int
    threads: int
    device: str
    tokens: int = 0


@dataclass(frozen=True)
class Writing:
    """How fast language models write, one row at a time.

    Args:
        first: seconds of reading the prompt and writing one token.
        whole: of the same and `further` tokens more, in the same rounds.
        prompt: tokens of the prompt.
        further: how many tokens are written after the first.
    """

    first: Timing
    whole: Timing
    prompt: int
    further: int


def quantile(timing: Timing, name: str, q: float, generator: np.random.Generator) -> Interval:
    """A quantile of a model's seconds with the percentile interval of resampled rounds."""
    times = _times(timing, name)
    return percentile(float(np.quantile(times, q)), _quantiles(times, q, generator))


def throughput(timing: Timing, name: str, count: int, generator: np.random.Generator) -> Interval:
    """How many of `count` a second, by the median round, with the interval of resampled rounds."""
    found = quantile(timing, name, 0.5, generator)
    return Interval(count / found.estimate, count / found.high, count / found.low)


def token_seconds(writing: Writing) -> Timing:
    """Seconds of each further token, round by round."""
    first, whole = writing.first.seconds, writing.whole.seconds
    # A pause in the shorter pass alone would make time run backwards.
    each = {name: np.maximum(whole[name] - first[name], _LEAST) / writing.further for name in first}
    return replace(writing.whole, seconds=each)


def ratio(timing: Timing, of: str, to: str, generator: np.random.Generator) -> Interval:
    """The median over rounds of one model's seconds over another's, in the same round."""
    ratios = _times(timing, of) / _times(timing, to)
    return percentile(float(np.median(ratios)), _quantiles(ratios, 0.5, generator))


def _quantiles(
    values: Float[np.ndarray, " r"], q: float, generator: np.random.Generator
) -> Float[np.ndarray, " d"]:
    return np.quantile(generator.choice(values, (DRAWS, len(values))), q, axis=1)


def _times(timing: Timing, name: str) -> Float[np.ndarray, " r"]:
    if name not in timing.seconds:
        raise DataError(
            f"the latency of {name!r} was asked",
            f"{', '.join(timing.seconds) or 'nobody'} was timed",
            "Time it with the others, in turns.",
        )
    return timing.seconds[name]
