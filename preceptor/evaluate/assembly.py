"""From a finished run's plain results to its report.

Dimension key: s seeds, n items, v classes, k logged steps.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from preceptor.evaluate import cost
from preceptor.evaluate.by_class import (
    agreement_by_class,
    agreement_of_models,
    class_reports,
    reliability_curve,
)
from preceptor.evaluate.curves import loss_curves
from preceptor.evaluate.report import (
    SCHEMA,
    ArmReport,
    Difference,
    Measured,
    Report,
    Role,
    Undefined,
    Value,
    Verdict,
)
from preceptor.evaluate.results import PLAIN, ArmResult, RunResult, check
from preceptor.evaluate.scores import Answered, Scores, score
from preceptor.evaluate.significance import (
    difference,
    exact,
    gap,
    means,
    over_seeds,
    share_where,
    valued,
)
from preceptor.evaluate.verdict import judge
from preceptor.ops.hypotheses import holm
from preceptor.ops.proportions import wilson
from preceptor.ops.resampling import Crossed

_UNITS = {
    "accuracy": "fraction",
    "top5": "fraction",
    "agreement": "fraction",
    "brier": "score",
    "macro_f1": "fraction",
    "ece": "fraction",
    "ece_scaled": "fraction",
    "temperature": "temperature",
    "kappa": "kappa",
    "error_consistency": "kappa",
    "error_consistency_bound": "kappa",
    "confidence_correlation": "correlation",
    "bits_per_byte": "bits",
    "mrr": "fraction",
    "similarity_correlation": "correlation",
    "token_agreement": "fraction",
    "length": "tokens",
    "ended": "fraction",
}
_NO_VALIDATION = "no validation items were given"
_WHY = {
    "temperature": _NO_VALIDATION,
    "ece_scaled": _NO_VALIDATION,
    "kappa": "both give one class throughout",
    "error_consistency": "both are always right, or always wrong",
    "error_consistency_bound": "both are always right, or always wrong",
    "confidence_correlation": "a confidence never varies",
}


def build_report(result: RunResult, *, seed: int = 0) -> Report:
    """Judge a run: every number with its interval, and a verdict in words.

    The same result and the same `seed` (of the resampling) give the same report.

    Raises:
        DataError: where arms cannot be compared item by item and seed by seed.
        NonFiniteError: where a model answered NaN or Inf.
    """
    check(result)
    generator = np.random.default_rng(seed)
    crossed = Crossed(len(result.student.seeds), len(result.labels), generator)
    scores = {arm.name: score(arm, result.teacher, result.labels) for arm in result.everybody}
    student, control = result.student.name, result.student.versus
    report = Report(
        schema=SCHEMA,
        name=result.name,
        primary=result.primary,
        student=student,
        control=control if control in scores else None,
        verdict=Verdict("not known", "", ()),
        items=len(result.labels),
        seeds=tuple(int(one.seed) for one in result.student.seeds),
        arms=tuple(_arm(arm, result, scores, crossed, generator) for arm in result.everybody),
        differences=_differences(result, scores, crossed, generator),
        gap=_gap(result, scores, crossed),
        ratios=_ratios(result, generator),
        classes=class_reports(result, scores, generator),
        class_agreement=agreement_by_class(result, scores),
        model_agreement=agreement_of_models(scores),
        reliability=tuple(
            reliability_curve(name, each.answered)
            for name, each in scores.items()
            if each.answered is not None
        ),
        curves=loss_curves(result),
        timing=_timing(result),
        recipe=result.recipe,
        versions=dict(result.versions),
        hardware=dict(result.hardware),
        phases={name: exact(seconds, "seconds") for name, seconds in result.phases.items()},
        warnings=tuple(result.warnings),
    )
    return dataclasses.replace(report, verdict=judge(report))


def _role(arm: ArmResult, result: RunResult) -> Role:
    if arm is result.teacher:
        return "teacher"
    if arm.name in {each.versus for each in result.arms}:
        return "control"
    return "plain" if arm.name in PLAIN else "student"


def _arm(
    arm: ArmResult,
    result: RunResult,
    scores: dict[str, Scores],
    crossed: Crossed,
    generator: np.random.Generator,
) -> ArmReport:
    own = scores[arm.name]
    measures: dict[str, Measured] = {}
    measures |= means(own.by_item, {k: _UNITS.get(k, "nats") for k in own.by_item}, crossed)
    for name, numbers in own.by_seed.items():
        measures[name] = over_seeds(numbers, _UNITS[name], _WHY.get(name, "it is not a number"))
    if result.teacher is not None and arm is not result.teacher:
        measures |= _on_errors(own.answered, scores[result.teacher.name].answered, crossed)
    measures |= {
        "parameters": exact(arm.cost.parameters, "parameters"),
        "bytes": exact(arm.cost.bytes, "bytes"),
        "flops": exact(arm.cost.flops, "operations"),
        "steps": _spent(np.array([one.steps for one in arm.seeds], dtype=float), "steps"),
        "seconds": _spent(np.array([one.seconds for one in arm.seeds], dtype=float), "seconds"),
    }
    for name, q in (("latency_p50", 0.5), ("latency_p95", 0.95)):
        measures[name] = _latency(arm.name, result, q, generator)
    return ArmReport(
        name=arm.name,
        role=_role(arm, result),
        measures=measures,
        by_seed=tuple(_one_seed(row, result.primary, generator) for row in _primary(own, result)),
        unlabelled=arm.unlabelled,
    )


def _primary(scores: Scores, result: RunResult) -> Float[np.ndarray, "s n"]:
    return scores.by_item[result.primary]


def _one_seed(row: Float[np.ndarray, " n"], primary: str, generator: np.random.Generator) -> Value:
    """The primary measure under one seed, its items resampled."""
    if _UNITS[primary] == "fraction":
        return valued(wilson(int(row.sum()), len(row)), len(row), "fraction")
    one = Crossed(1, len(row), generator)
    return means({primary: row[None]}, _UNITS, one)[primary]


def _on_errors(own: Answered | None, master: Answered | None, crossed: Crossed) -> dict[str, Any]:
    if own is None or master is None:
        return {}
    same = own.predicted == master.predicted
    wrong = np.broadcast_to(~master.hit, own.hit.shape)
    why = "the teacher makes no error on these items"
    return {"agreement_on_errors": share_where(same, wrong, crossed, why)}


def _spent(numbers: np.ndarray, unit: str) -> Measured:
    if (numbers == numbers[0]).all():
        return exact(numbers[0], unit)
    return over_seeds(numbers, unit, "it is not a number")


def _latency(name: str, result: RunResult, q: float, generator: np.random.Generator) -> Measured:
    if result.timing is None or name not in result.timing.seconds:
        return Undefined("it was not timed")
    interval = cost.quantile(result.timing, name, q, generator)
    return valued(interval, len(result.timing.seconds[name]), "seconds")


def _timing(result: RunResult) -> str:
    timing = result.timing
    if timing is None or not timing.seconds:
        return "Nothing was timed."
    rounds = len(next(iter(timing.seconds.values())))
    images = "1 example" if timing.batch == 1 else f"{timing.batch} examples"
    threads = "1 thread" if timing.threads == 1 else f"{timing.threads} threads"
    return (
        f"One warm forward pass of {images} on {timing.device}, {threads}; models in turns, "
        f"{rounds} rounds; ratios within a round."
    )


def _differences(
    result: RunResult,
    scores: dict[str, Scores],
    crossed: Crossed,
    generator: np.random.Generator,
) -> tuple[Difference, ...]:
    """Every arm against its control, and the student against the arms beside it."""
    arms = {arm.name: arm for arm in result.arms}
    pairs = [(arm.name, arm.versus) for arm in result.arms if arm.versus != arm.name]
    pairs += [(result.student.name, plain) for plain in PLAIN if plain != "control"]
    pairs = [pair for pair in dict.fromkeys(pairs) if pair[1] in arms]
    found = []
    for of, versus in pairs:
        master = None
        if result.teacher is not None:
            master = _beside(scores[result.teacher.name], scores[of], result)
        sides = (of, _good(scores[of], result)), (versus, _good(scores[versus], result))
        found.append(difference(*sides, master, crossed, generator, result.primary))
    adjusted = holm(np.array([each.p.estimate for each in found])) if found else ()
    return tuple(
        dataclasses.replace(each, p_holm=dataclasses.replace(each.p, estimate=float(p)))
        for each, p in zip(found, adjusted, strict=True)
    )


def _gap(result: RunResult, scores: dict[str, Scores], crossed: Crossed) -> Measured:
    control = scores.get(result.student.versus)
    if result.teacher is None or control is None:
        return Undefined("there is no teacher, or no control")
    master = _beside(scores[result.teacher.name], control, result)
    return gap(master, _good(control, result), crossed, result.primary)


def _good(scores: Scores, result: RunResult) -> Any:
    """What more of is better [s, n]: hits where there are any, so that they are tested as such."""
    column = scores.good(result.primary)
    return column.astype(bool) if _UNITS[result.primary] == "fraction" else column


def _beside(teacher: Scores, other: Scores, result: RunResult) -> Any:
    return np.broadcast_to(_good(teacher, result), _good(other, result).shape)


def _ratios(result: RunResult, generator: np.random.Generator) -> dict[str, Measured]:
    """The teacher's cost over the student's."""
    if result.teacher is None:
        return {}
    big, small = result.teacher.cost, result.student.cost
    ratios: dict[str, Measured] = {}
    for name in ("parameters", "bytes", "flops"):
        below = getattr(small, name)
        ratios[name] = (
            exact(getattr(big, name) / below, "times")
            if below
            else Undefined(f"the student has no {name}")
        )
    timed = result.timing.seconds if result.timing else {}
    names = result.teacher.name, result.student.name
    if result.timing is None or not set(names) <= set(timed):
        ratios["latency"] = Undefined("they were not timed together")
    else:
        interval = cost.ratio(result.timing, *names, generator)
        ratios["latency"] = valued(interval, len(timed[names[0]]), "times")
    return ratios
