"""How much of the distance to its teacher a student makes up, and whether two ways add up.

Losses are [seeds, items], lower is better; the same seeds and items for every arm, [1, items] for a
teacher. All intervals are 95 %, seeds and items drawn together.

    reduction    R = (baseline - arm) / (baseline - teacher)
    interaction  I = start + taught - both - baseline, of losses: 0 where gains add up
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preceptor.ops.resampling import Crossed, Interval, paired_bootstrap, percentile, ratio_interval

Scores = NDArray[np.float64]
"""[seeds, items]."""

Curve = Sequence[tuple[int, float]]
"""Steps taken, and the loss then."""


def reduction(arm: Scores, baseline: Scores, teacher: Scores) -> Interval | str:
    """R, or a sentence where the teacher's lead over the baseline is not told from 0."""
    gain = baseline - arm
    lead = baseline - np.broadcast_to(teacher, baseline.shape)
    drawn = _drawn(gain, lead)
    estimate = float(gain.mean()), float(lead.mean())
    if estimate[1] < 0:
        return f"the teacher's loss is {-estimate[1]:.4g} above the baseline's: there is no lead"
    return ratio_interval(drawn[:, 0], drawn[:, 1], estimate)


def interaction(baseline: Scores, start: Scores, taught: Scores, both: Scores) -> Interval:
    """I: below 0 where both together gain less than the sum of what each gains alone."""
    combined = start + taught - both - baseline
    return percentile(float(combined.mean()), _drawn(combined)[:, 0])


def _drawn(*measures: Scores) -> NDArray[np.float64]:
    """Means of all measures over the same draws of seeds and items, [draws, measures]."""
    seeds, items = measures[0].shape
    return Crossed(seeds, items, np.random.default_rng(0)).means(np.stack(measures))


def advantage(arm: Scores, other: Scores) -> Interval:
    """How far an arm's loss lies below another's."""
    return paired_bootstrap(other, arm, np.random.default_rng(0))


def reached(curve: Curve, loss: float) -> float | None:
    """The steps after which a curve first falls to a loss, linear between its points; None: never.

    >>> reached([(0, 4.0), (10, 2.0)], 3.0)
    5.0
    """
    before = curve[0]
    if before[1] <= loss:
        return float(before[0])
    for step, value in curve[1:]:
        if value <= loss:
            return before[0] + (step - before[0]) * (before[1] - loss) / (before[1] - value)
        before = (step, value)
    return None


def speed_up(arm: Curve, baseline: Curve) -> float | None:
    """Tokens to the baseline's last loss: its own over the arm's; None: never reached."""
    steps = reached(arm, baseline[-1][1])
    return None if steps is None else baseline[-1][0] / max(steps, 1.0)
