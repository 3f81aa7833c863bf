"""From a finished run's plain results to its report.

Dimension key: s seeds, n items, v classes, k logged steps.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from preceptor.evaluate.alike import widest_bound
from preceptor.evaluate.by_class import (
    agreement_by_class,
    agreement_of_models,
    class_reports,
    reliability_curves,
    slice_reports,
)
from preceptor.evaluate.by_layer import layer_map, layer_pairs
from preceptor.evaluate.costs import cost_measures, ratios, timing_sentence
from preceptor.evaluate.curves import loss_curves
from preceptor.evaluate.diagnosed import diagnosed
from preceptor.evaluate.graded import graded_measures
from preceptor.evaluate.measures import LESS_IS_BETTER, unit_of
from preceptor.evaluate.of_items import NO_NUMBER, WHY, more_specific, of_items
from preceptor.evaluate.quantised import quantised
from preceptor.evaluate.report import (
    SCHEMA,
    ArmReport,
    Difference,
    Measured,
    Quantised,
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
    no_width,
    over_seeds,
    valued,
)
from preceptor.evaluate.transfer import transfer
from preceptor.evaluate.verdict import judge
from preceptor.ops.hypotheses import holm
from preceptor.ops.proportions import wilson
from preceptor.ops.resampling import Crossed

_FEWEST_GROUPS = 10
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
    scores = {arm.name: _scored(arm, result) for arm in result.everybody}
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
        ratios=ratios(result, scores, crossed, generator),
        classes=class_reports(result, scores, generator),
        slices=slice_reports(result, scores, generator),
        class_agreement=agreement_by_class(result, scores),
        model_agreement=agreement_of_models(scores),
        reliability=reliability_curves(result, scores),
        curves=loss_curves(result),
        layers=layer_pairs(result),
        layer_map=layer_map(result),
        timing=timing_sentence(result),
        recipe=result.recipe,
        versions=dict(result.versions),
        hardware=dict(result.hardware),
        phases={name: exact(seconds, "seconds") for name, seconds in result.phases.items()},
        warnings=(*result.warnings, *_contaminated(result), *_few_groups(result)),
        contamination=result.contamination,
        licences=result.licences,
        quantised=_quantised(result, scores, crossed),
        begun=result.begun,
        clusters=len(set(result.clusters)),
    )
    report = dataclasses.replace(report, findings=diagnosed(result, report))
    return dataclasses.replace(report, verdict=judge(report))


def _scored(arm: ArmResult, result: RunResult) -> Scores:
    return score(arm, result.teacher, result.labels, result.independent)


def _contaminated(result: RunResult) -> tuple[str, ...]:
    said = result.contamination.sentence() if result.contamination is not None else ""
    return (said,) if said else ()


def _few_groups(result: RunResult) -> tuple[str, ...]:
    """A warning where test items belong to too few groups to be drawn from."""
    count = len(set(result.clusters))
    if not 0 < count < _FEWEST_GROUPS:
        return ()
    told = "group" if count == 1 else "groups"
    return (
        f"the test items belong to {count} {told}: so few do not tell how others would differ, and "
        "every interval is narrower than it should be",
    )


def _quantised(result: RunResult, scores: dict[str, Scores], crossed: Crossed) -> Quantised | None:
    """Arms whose weights were rounded to 8 bits, beside themselves as they were."""
    if not result.rounded:
        return None
    primary = result.primary
    after = {arm.name: score(arm, None, result.labels).by_item[primary] for arm in result.rounded}
    return quantised(
        {name: scores[name].by_item[primary] for name in after},
        after,
        crossed,
        student=result.student.name,
        control=result.student.versus,
        unit=unit_of(primary),
        less_is_better=primary in LESS_IS_BETTER,
    )


def _role(arm: ArmResult, result: RunResult) -> Role:
    if arm is result.teacher:
        return "teacher"
    if arm is result.independent:
        return "independent"
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
    measures = of_items(own, crossed)
    for name, numbers in own.by_seed.items():
        if name not in own.untold:
            measures[name] = over_seeds(numbers, unit_of(name), WHY.get(name, NO_NUMBER))
    if result.teacher is not None and arm is not result.teacher:
        master, control = scores[result.teacher.name].answered, scores.get(arm.versus)
        control = None if control is own else control
        beside = control.answered if control is not None else None
        if own.answered is not None and master is not None:
            measures |= transfer(own.answered, master, beside, crossed)
            bound = measures.get("error_consistency_bound")
            if isinstance(bound, Value) and no_width(bound):
                hits = own.answered.hit, np.broadcast_to(master.hit, own.answered.hit.shape)
                measures["error_consistency_bound"] = widest_bound(bound, *hits, crossed)
        if control is not None:
            measures |= more_specific(own, control, crossed)
    measures |= _on_training(arm, result, generator)
    measures |= _on_graded_pairs(arm, result, generator)
    measures |= cost_measures(arm, result, generator)
    return ArmReport(
        name=arm.name,
        role=_role(arm, result),
        measures=measures,
        by_seed=tuple(
            _one_seed(row, result.primary, generator, clusters) for row in _primary(own, result)
        ),
        unlabelled=arm.unlabelled,
    )


def _on_training(
    arm: ArmResult, result: RunResult, generator: np.random.Generator
) -> dict[str, Measured]:
    """The same on training examples: where a student copied nothing there, it did not learn to."""
    scores = score_of_training(arm, result.teacher)
    if scores is None:
        return {}
    items = next(iter(scores.by_item.values())).shape[1]
    crossed = Crossed(len(result.student.seeds), items, generator)
    found = of_items(scores, crossed)
    return {f"train_{name}": found[name] for name in _ON_TRAINING if name in found}


def _on_graded_pairs(
    arm: ArmResult, result: RunResult, generator: np.random.Generator
) -> dict[str, Measured]:
    if result.grades is None:
        return {}
    control = next((each for each in result.arms if each.name == arm.versus), None)
    crossed = Crossed(len(result.student.seeds), len(result.grades), generator)
    beside = None if arm is result.teacher else control
    return graded_measures(arm, beside, result.teacher, result.grades, crossed)


def _primary(scores: Scores, result: RunResult) -> Float[np.ndarray, "s n"]:
    return scores.by_item[result.primary]


def _one_seed(
    row: Float[np.ndarray, " n"],
    primary: str,
    generator: np.random.Generator,
    clusters: np.ndarray | None,
) -> Value:
    """The primary measure under one seed, its items resampled."""
    if clusters is None and np.isin(row, (0.0, 1.0)).all() and unit_of(primary) == "fraction":
        return valued(wilson(int(row.sum()), len(row)), len(row), "fraction")
    one = Crossed(1, len(row), generator, clusters=clusters)
    return means({primary: row[None]}, {primary: unit_of(primary)}, one)[primary]


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
