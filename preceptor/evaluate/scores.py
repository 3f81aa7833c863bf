"""An arm's scores: one number an item and seed where the measure is a mean, else one a seed.

Dimension key: s seeds, n items, v classes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from preceptor.evaluate import fidelity, task
from preceptor.evaluate.report import LESS_IS_BETTER
from preceptor.evaluate.results import ArmResult, SeedResult
from preceptor.ops import calibration

_Labels = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Answered:
    """The classes that an arm's models predicted."""

    predicted: Int[np.ndarray, "s n"]
    hit: Bool[np.ndarray, "s n"]
    confidence: Float[np.ndarray, "s n"]


@dataclass(frozen=True)
class Scores:
    """How one arm's models score; `answered` is None for what writes text."""

    name: str
    answered: Answered | None
    by_item: Mapping[str, Float[np.ndarray, "s n"]]
    by_seed: Mapping[str, Float[np.ndarray, " s"]]

    def good(self, primary: str) -> Float[np.ndarray, "s n"]:
        """The primary measure with a sign by which more is better."""
        column = self.by_item[primary]
        return -column if primary in LESS_IS_BETTER else column


def score(arm: ArmResult, teacher: ArmResult | None, labels: _Labels) -> Scores:
    """Score an arm under every seed, and beside its teacher where there is one.

    `by_item` and `by_seed` are named as in `report.MEASURES`; where a measure does not exist for a
    seed it is NaN.
    """
    if arm.seeds[0].logits is None:
        items = [one.items for one in arm.seeds]
        own = {name: np.stack([each[name] for each in items]) for name in items[0]}
        return Scores(arm.name, None, own, {})
    seeds = [_one(one, labels) for one in arm.seeds]
    items = [each.by_item for each in seeds]
    whole = [each.by_seed for each in seeds]
    if teacher is not None and teacher is not arm:
        masters = [_one(one, labels) for one in teacher.seeds]
        masters = masters * (len(seeds) // len(masters))
        for i, (own, master) in enumerate(zip(seeds, masters, strict=True)):
            items[i] = {**items[i], **_beside_by_item(own, master)}
            whole[i] = {**whole[i], **_beside_by_seed(own, master)}
    return Scores(
        name=arm.name,
        answered=Answered(
            predicted=np.stack([each.predicted for each in seeds]),
            hit=np.stack([each.hit for each in seeds]),
            confidence=np.stack([each.confidence for each in seeds]),
        ),
        by_item={name: np.stack([each[name] for each in items]) for name in items[0]},
        by_seed={name: np.array([each[name] for each in whole]) for name in whole[0]},
    )


@dataclass(frozen=True)
class _One:
    logp: Float[np.ndarray, "n v"]
    predicted: Int[np.ndarray, " n"]
    hit: Bool[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    by_item: dict[str, Float[np.ndarray, " n"]]
    by_seed: dict[str, float]


def _one(result: SeedResult, labels: _Labels) -> _One:
    assert result.logits is not None
    logp = calibration.log_probabilities(result.logits)
    hit, confidence = task.hits(logp, labels), np.exp(logp.max(axis=-1))
    predicted = logp.argmax(axis=-1)
    by_item = {
        "accuracy": hit.astype(float),
        "nll": calibration.nll(logp, labels),
        "brier": calibration.brier(logp, labels),
    }
    if logp.shape[-1] > 5:
        by_item["top5"] = task.top_k_hits(logp, labels).astype(float)
    by_seed = {
        "macro_f1": task.macro_f1(predicted, labels),
        "ece": calibration.ece(confidence, hit),
        **_scaled(result, hit),
    }
    return _One(logp, predicted, hit, confidence, by_item, by_seed)


def _scaled(result: SeedResult, hit: Bool[np.ndarray, " n"]) -> dict[str, float]:
    held = result.validation
    if held is None or len(held.labels) == 0:
        return {"temperature": float("nan"), "ece_scaled": float("nan")}
    temperature = calibration.fit_temperature(held.logits, held.labels)
    assert result.logits is not None
    logp = calibration.log_probabilities(result.logits.astype(np.float64) / temperature)
    cooled = np.exp(logp.max(axis=-1))
    return {"temperature": temperature, "ece_scaled": calibration.ece(cooled, hit)}


def _beside_by_item(own: _One, master: _One) -> dict[str, Float[np.ndarray, " n"]]:
    same = fidelity.same_answer(own.predicted, master.predicted)
    return {
        "agreement": same.astype(float),
        "kl_teacher_model": fidelity.kl(master.logp, own.logp),
        "kl_model_teacher": fidelity.kl(own.logp, master.logp),
        "js": fidelity.jensen_shannon(own.logp, master.logp),
    }


def _beside_by_seed(own: _One, master: _One) -> dict[str, float]:
    consistency = fidelity.error_consistency(own.hit, master.hit)
    return {
        "kappa": fidelity.cohen_kappa(own.predicted, master.predicted),
        "error_consistency": consistency.kappa,
        "error_consistency_bound": consistency.bound,
        "confidence_correlation": fidelity.confidence_correlation(
            own.confidence, master.confidence
        ),
    }


def agreements(everybody: Iterable[Answered]) -> list[list[float]]:
    """How often each two give one answer, meaned over seeds."""
    predicted = [each.predicted for each in everybody]
    return [[float((a == b).mean()) for b in predicted] for a in predicted]


def class_agreement(teacher: Answered, student: Answered, classes: int) -> Float[np.ndarray, "v v"]:
    """How often the student answers a column's class where the teacher answers a row's."""
    rows = np.broadcast_to(teacher.predicted, student.predicted.shape)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (rows, student.predicted), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
