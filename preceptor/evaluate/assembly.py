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
    reliability_curves,
    slice_reports,
)
from preceptor.evaluate.curves import loss_curves
from preceptor.evaluate.measures import unit_of
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
from preceptor.evaluate.scores import Scores, good_of, score, score_of_training
from preceptor.evaluate.significance import (
    difference,
    exact,
    gap,
    means,
    over_seeds,
    valued,
)
from preceptor.evaluate.transfer import transfer
from preceptor.evaluate.verdict import judge
from preceptor.ops.hypotheses import holm
from preceptor.ops.resampling import Crossed

_NO_NUMBER = "it is not a number"
_NO_VALIDATION = "no validation items were given"
_WHY = {
    "temperature": _NO_VALIDATION,
    "ece_scaled": _NO_VALIDATION,
    "kappa": "both give one class throughout",
    "error_consistency": "both are always right, or always wrong",
    "error_consistency_bound": "both are always right, or always wrong",
    "train_kappa": "both give one class throughout",
    "confidence_correlation": "a confidence never varies",
}
_ON_TRAINING = (
    "accuracy",
    "bits_per_byte",
    "agreement",
    "token_agreement",
    "kappa",
    "kl_teacher_model",
    "kl_model_teacher",
)


def build_report(result: RunResult, *, seed: int = 0) -> Report:
    """Judge a run: every number with its interval, and a verdict in words.

    The same result and the same `seed` (of the resampling) give the same report.

    Raises:
        DataError: where arms cannot be compared item by item and seed by seed.
        NonFiniteError: where a model answered NaN or Inf.
    """
    check(result)
    generator = np.random.default_rng(seed)
    clusters = np.array(result.clusters) if result.clusters else None
    seeds = len(result.student.seeds)
    crossed = Crossed(seeds, len(result.labels), generator, clusters=clusters)
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
        slices=slice_reports(result, scores, generator),
        class_agreement=agreement_by_class(result, scores),
        model_agreement=agreement_of_models(scores),
        reliability=reliability_curves(scores),
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
    clusters = np.array(result.clusters) if result.clusters else None
    measures = _of_items(own, crossed)
    for name, numbers in own.by_seed.items():
        measures[name] = over_seeds(numbers, unit_of(name), _WHY.get(name, _NO_NUMBER))
    if result.teacher is not None and arm is not result.teacher:
        master, control = scores[result.teacher.name].answered, scores.get(arm.versus)
        beside = control.answered if control is not None and control is not own else None
        if own.answered is not None and master is not None:
            measures |= transfer(own.answered, master, beside, crossed)
    measures |= _on_training(arm, result, generator)
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
        by_seed=tuple(
            _one_seed(row, result.primary, generator, clusters) for row in _primary(own, result)
        ),
        unlabelled=arm.unlabelled,
    )


def _of_items(scores: Scores, crossed: Crossed) -> dict[str, Measured]:
    """Every measure of items that there is a number of."""
    defined = {k: column for k, column in scores.by_item.items() if not np.isnan(column).any()}
    found = dict[str, Measured](means(defined, {k: unit_of(k) for k in defined}, crossed))
    for name in scores.by_item:
        found.setdefault(name, Undefined(_WHY.get(name, _NO_NUMBER)))
    return found


def _on_training(
    arm: ArmResult, result: RunResult, generator: np.random.Generator
) -> dict[str, Measured]:
    """The same on training examples: where a student copied nothing there, it did not learn to."""
    scores = score_of_training(arm, result.teacher)
    if scores is None:
        return {}
    items = next(iter(scores.by_item.values())).shape[1]
    crossed = Crossed(len(result.student.seeds), items, generator)
    found = _of_items(scores, crossed)
    return {f"train_{name}": found[name] for name in _ON_TRAINING if name in found}


def _primary(scores: Scores, result: RunResult) -> Float[np.ndarray, "s n"]:
    return scores.by_item[result.primary]


def _one_seed(
    row: Float[np.ndarray, " n"],
    primary: str,
    generator: np.random.Generator,
    clusters: np.ndarray | None,
) -> Value:
    """The primary measure under one seed, its items resampled."""
    one = Crossed(1, len(row), generator, clusters=clusters)
    return means({primary: row[None]}, {primary: unit_of(primary)}, one)[primary]


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
        sides = (
            (of, good_of(scores[of], result.primary)),
            (versus, good_of(scores[versus], result.primary)),
        )
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
    return gap(master, good_of(control, result.primary), crossed, result.primary)


def _beside(teacher: Scores, other: Scores, result: RunResult) -> Any:
    return np.broadcast_to(good_of(teacher, result.primary), good_of(other, result.primary).shape)


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
