"""What a run's models cost, as measures; the teacher's cost and quality beside the student's.

Dimension key: s seeds, n items.
"""

import numpy as np
from jaxtyping import Bool

from preceptor.evaluate.measures import LESS_IS_BETTER, MEASURES
from preceptor.evaluate.report import Measured, Undefined
from preceptor.evaluate.results import ArmResult, RunResult
from preceptor.evaluate.scores import Scores
from preceptor.evaluate.significance import ROUNDING, exact, over_seeds, valued
from preceptor.evaluate.timing import Timing, Writing, quantile, ratio, throughput, token_seconds
from preceptor.ops.proportions import ratio_of_rates
from preceptor.ops.resampling import Crossed, Interval, ratio_interval

_UNTIMED = Undefined("it was not timed")

_WIDEST = 2.0
"""Limits of the quality kept farther apart than this, 200 %, say nothing of it: most students keep
between none and all.
"""


def cost_measures(
    arm: ArmResult, result: RunResult, generator: np.random.Generator
) -> dict[str, Measured]:
    """Sizes, operations, memory and times of an arm's model."""
    own = arm.cost
    measures: dict[str, Measured] = {
        "parameters": exact(own.parameters, "parameters"),
        "bytes": exact(own.bytes, "bytes"),
        "disk": _known(own.disk, "it lies in no folder of its own"),
        "flops": exact(own.flops, "operations"),
        "peak": _known(own.peak, "it was not measured"),
        "steps": _spent(np.array([one.steps for one in arm.seeds], dtype=float), "steps"),
        "seconds": _spent(np.array([one.seconds for one in arm.seeds], dtype=float), "seconds"),
    }
    for name, q in (("latency_p50", 0.5), ("latency_p95", 0.95)):
        measures[name] = _latency(arm.name, result.timing, q, generator)
    measures["throughput"] = _throughput(arm.name, result.many, generator)
    return measures | _writing(arm.name, result.writing, generator)


def _writing(
    name: str, writing: Writing | None, generator: np.random.Generator
) -> dict[str, Measured]:
    """Until the first token, for each further one, and so many a second; of what writes alone."""
    if writing is None:
        return {}
    found: dict[str, Measured] = {}
    each = token_seconds(writing)
    for measure, timing in (("first_token", writing.first), ("token", each)):
        for part, q in (("p50", 0.5), ("p95", 0.95)):
            found[f"{measure}_{part}"] = _latency(name, timing, q, generator)
    found["tokens_a_second"] = _UNTIMED
    if name in each.seconds:
        interval = throughput(each, name, 1, generator)
        found["tokens_a_second"] = valued(interval, _rounds(each), "tokens a second")
    return found


def timing_sentence(result: RunResult) -> str:
    """How times were taken."""
    timing = result.timing
    if timing is None or not timing.seconds:
        return "Nothing was timed."
    threads = "1 thread" if timing.threads == 1 else f"{timing.threads} threads"
    said = (
        f"One warm forward pass of {_examples(timing.batch)} on {timing.device}, {threads}; models "
        f"in turns, {_rounds(timing)} rounds; ratios within a round."
    )
    many = result.many
    if many is not None and many.seconds:
        tokens = f" ({many.tokens} tokens without padding)" if many.tokens else ""
        said += f" Throughput: {_examples(many.batch)} at once{tokens}, {_rounds(many)} rounds."
    return f"{said} {_written(result.writing)}".rstrip()


def _written(writing: Writing | None) -> str:
    """How it was timed how fast models write."""
    if writing is None:
        return ""
    said = f"a prompt of {writing.prompt} tokens and {writing.further} after the first"
    return f"Writing: 1 row, {said}."


def ratios(
    result: RunResult, scores: dict[str, Scores], crossed: Crossed, generator: np.random.Generator
) -> dict[str, Measured]:
    """The teacher's cost over the student's, and the share of its quality that the student has."""
    if result.teacher is None:
        return {}
    big, small = result.teacher.cost, result.student.cost
    found: dict[str, Measured] = {}
    for name in ("parameters", "bytes", "disk", "flops", "peak"):
        above, below = getattr(big, name), getattr(small, name)
        known = above and below
        found[name] = exact(above / below, "times") if known else Undefined(f"no {name} is known")
    names = result.teacher.name, result.student.name
    found["latency"] = _ratio(result.timing, *names, generator)
    found["throughput"] = _ratio(result.many, *names, generator)
    found["quality"] = _kept(result, scores, crossed)
    return found


def _kept(result: RunResult, scores: dict[str, Scores], crossed: Crossed) -> Measured:
    """The student's primary measure over the teacher's; turned round where less is better.

    Of rates it never lacks width: where the bootstrap has none, and under one seed, it has the
    score interval, on the mean seed's counts. No quality is below 0, so neither is a share of it:
    draws are deviations from the mean, and of a student near 0 they may lie there all the same.
    """
    assert result.teacher is not None
    student = scores[result.student.name].by_item[result.primary]
    teacher = scores[result.teacher.name].by_item[result.primary]
    pair = (student, np.broadcast_to(teacher, student.shape))
    above, below = pair[::-1] if result.primary in LESS_IS_BETTER else pair
    drawn = crossed.means(np.stack([above, below]).astype(np.float64))
    means = float(above.mean()), float(below.mean())
    if means[1] == 0:
        return Undefined(f"the teacher's {MEASURES[result.primary]} is 0: there is none to keep")
    near = Undefined(
        f"the teacher's {MEASURES[result.primary]} is too near to 0 for limits of a share of it"
    )
    interval = ratio_interval(drawn[:, 0], drawn[:, 1], means)
    rates = all(np.isin(side, (0.0, 1.0)).all() for side in pair)
    if rates and ((len(student) == 1 and not crossed.clustered) or _flat(interval)):
        interval = _of_rates(student == 1, pair[1] == 1, len(crossed.summed(student[0])))
    elif (drawn[:, 1] <= 0).any():
        return near
    if not isinstance(interval, Interval):
        return near
    interval = Interval(*(max(0.0, number) for number in interval))
    if interval.high - interval.low <= _WIDEST:
        return valued(interval, student.shape[1], "share")
    return Undefined("limits of this share would lie more than 200 % apart")


def _flat(interval: Interval | str) -> bool:
    """Whether nothing lies between the limits."""
    return isinstance(interval, Interval) and interval.high - interval.low < ROUNDING


def _of_rates(
    student: Bool[np.ndarray, "s n"], teacher: Bool[np.ndarray, "s n"], units: int
) -> Interval:
    only_student, only_teacher, both = (
        float(each.mean()) * units
        for each in (student & ~teacher, teacher & ~student, student & teacher)
    )
    return ratio_of_rates(only_student, only_teacher, both, units)


def _ratio(timing: Timing | None, of: str, to: str, generator: np.random.Generator) -> Measured:
    if timing is None or not {of, to} <= set(timing.seconds):
        return Undefined("they were not timed together")
    return valued(ratio(timing, of, to, generator), _rounds(timing), "times")


def _latency(
    name: str, timing: Timing | None, q: float, generator: np.random.Generator
) -> Measured:
    if timing is None or name not in timing.seconds:
        return _UNTIMED
    return valued(quantile(timing, name, q, generator), _rounds(timing), "seconds")


def _throughput(name: str, timing: Timing | None, generator: np.random.Generator) -> Measured:
    if timing is None or name not in timing.seconds:
        return _UNTIMED
    count, unit = (timing.tokens, "tokens") if timing.tokens else (timing.batch, "examples")
    interval = throughput(timing, name, count, generator)
    return valued(interval, _rounds(timing), f"{unit} a second")


def _known(number: int, why: str) -> Measured:
    return exact(number, "bytes") if number else Undefined(why)


def _spent(numbers: np.ndarray, unit: str) -> Measured:
    """Steps are settled beforehand, and what was never trained took no time; times vary."""
    settled = unit == "steps" or numbers[0] == 0
    if settled and (numbers == numbers[0]).all():
        return exact(numbers[0], unit)
    return over_seeds(numbers, unit, "it is not a number")


def _rounds(timing: Timing) -> int:
    return len(next(iter(timing.seconds.values())))


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count} examples"
