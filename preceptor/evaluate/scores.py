"""An arm's scores: one number an item and seed, also where the measure is no mean over items.

Such a measure comes as a column that has it as its mean (`ops.linearised`), so that everything is
resampled over seeds and items in one way.

Dimension key: s seeds, n items, v classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from preceptor.evaluate import fidelity, rationales, task
from preceptor.evaluate.alike import Alike, alike, columns_of, too_few_errors
from preceptor.evaluate.report import LESS_IS_BETTER
from preceptor.evaluate.results import ArmResult, SeedResult, Validation
from preceptor.ops import calibration, linearised, rankings

PLACES = 5
"""How many of the teacher's first classes are compared in their order."""

_Labels = Int[np.ndarray, " n"]
_Columns = dict[str, Float[np.ndarray, " n"]]


@dataclass(frozen=True)
class Answered:
    """What an arm's models answered: classes, or numbers of the texts; no confidence for texts."""

    predicted: Int[np.ndarray, "s n"]
    hit: Bool[np.ndarray, "s n"]
    confidence: Float[np.ndarray, "s n"] | None


@dataclass(frozen=True)
class Scores:
    """How one arm's models score.

    Args:
        name: the arm's.
        answered: None where nothing is answered.
        by_item: measures, named as in `report.MEASURES`; NaN where one does not exist.
        by_seed: what is one number a model.
        alike: what stands behind measures of agreement beyond chance.
        untold: measures of which nothing is said, and why.
    """

    name: str
    answered: Answered | None
    by_item: Mapping[str, Float[np.ndarray, "s n"]]
    by_seed: Mapping[str, Float[np.ndarray, " s"]]
    alike: Mapping[str, Alike] = field(default_factory=dict)
    untold: Mapping[str, str] = field(default_factory=dict)

    def has(self, measure: str) -> bool:
        """Whether every seed has the measure, of every item."""
        return measure in self.by_item and not np.isnan(self.by_item[measure]).any()

    def good(self, primary: str) -> Float[np.ndarray, "s n"]:
        """The primary measure with a sign by which more is better."""
        column = self.by_item[primary]
        return -column if primary in LESS_IS_BETTER else column


def score(
    arm: ArmResult,
    teacher: ArmResult | None,
    labels: _Labels,
    independent: ArmResult | None = None,
) -> Scores:
    """Score an arm under every seed, beside its teacher and one that it never met, where there are.

    A measure that some seeds lack, or some items, is NaN there.
    """
    seeds = [_one(one, labels) for one in arm.seeds]
    columns = [each.columns for each in seeds]
    beyond: dict[str, Any] = {}
    if teacher is not None and teacher is not arm:
        masters = _of_each_seed(teacher, labels, len(seeds))
        for i, (own, master) in enumerate(zip(seeds, masters, strict=True)):
            columns[i] = {**columns[i], **_beside(own, master)}
        beyond = _beyond_chance(seeds, masters)
        if independent is not None and independent is not arm:
            others = _of_each_seed(independent, labels, len(seeds))
            for i, each in enumerate(zip(seeds, masters, others, strict=True)):
                columns[i] |= _beyond(*each, columns[i])
    by_seed = {"temperature": [each.temperature for each in seeds]}
    ended = [each.temperature for each in seeds if calibration.at_edge(each.temperature)]
    untold = beyond.pop("untold", {}) | ({"temperature": _at_edge(ended, seeds)} if ended else {})
    return Scores(
        name=arm.name,
        answered=_answered(seeds),
        by_item=_stacked(columns),
        by_seed={k: np.array(v) for k, v in by_seed.items() if seeds[0].logp is not None},
        **beyond,
        untold=untold,
    )


def _at_edge(ended: Sequence[float], seeds: Sequence[Any]) -> str:
    where = f", under {len(ended)} of {len(seeds)} seeds" if len(seeds) > 1 else ""
    return (
        f"the search for it ended at its edge, {ended[0]:.2g}{where}: the validation items do not "
        "settle it"
    )


def score_of_training(arm: ArmResult, teacher: ArmResult | None) -> Scores | None:
    """The same on the training examples that were asked about; None where none were."""
    parts = [one.train for one in arm.seeds if one.train is not None]
    if len(parts) < len(arm.seeds):
        return None
    labels = parts[0].labels
    found = ArmResult(arm.name, tuple(map(_on_training, arm.seeds)), arm.cost, arm.versus)
    if teacher is None or any(one.train is None for one in teacher.seeds):
        return score(found, None, labels)
    if teacher is arm:
        return score(found, found, labels)
    seeds = tuple(map(_on_training, teacher.seeds))
    return score(found, ArmResult(teacher.name, seeds, teacher.cost), labels)


def _on_training(one: SeedResult) -> SeedResult:
    assert one.train is not None
    return SeedResult(one.seed, one.train.logits, 0, 0.0, items=one.train.items)


@dataclass(frozen=True)
class _One:
    """One model: `answers` are what it answered and whether that is right, where it answers."""

    columns: _Columns
    logp: Float[np.ndarray, "n v"] | None = None
    answers: tuple[_Labels, Bool[np.ndarray, " n"]] | None = None
    confidence: Float[np.ndarray, " n"] | None = None
    temperature: float = float("nan")
    texts: tuple[str, ...] = ()


def _of_each_seed(teacher: ArmResult, labels: _Labels, seeds: int) -> list[_One]:
    """A teacher's models; the one of all seeds as often as there are seeds."""
    found = [_one(one, labels) for one in teacher.seeds]
    return found * (seeds // len(found))


def _stacked(seeds: Sequence[_Columns]) -> dict[str, Float[np.ndarray, "s n"]]:
    """Every measure that some seed has; NaN under a seed that has it not."""
    some = {name: column for each in seeds for name, column in each.items()}
    return {
        name: np.stack([each.get(name, np.full_like(column, np.nan)) for each in seeds])
        for name, column in some.items()
    }


def _answered(seeds: Sequence[_One]) -> Answered | None:
    answers = [each.answers for each in seeds if each.answers is not None]
    sure = [each.confidence for each in seeds if each.confidence is not None]
    if len(answers) < len(seeds):
        return None
    predicted, hits = (np.stack(side) for side in zip(*answers, strict=True))
    return Answered(predicted, hits, np.stack(sure) if sure else None)


def _one(result: SeedResult, labels: _Labels) -> _One:
    if result.logits is None:
        return _written(result)
    logp = calibration.log_probabilities(result.logits)
    hit, confidence = task.hits(logp, labels), np.exp(logp.max(axis=-1))
    predicted = logp.argmax(axis=-1)
    temperature, scaled = _scaled(result.logits, result.validation, hit)
    columns = {
        "accuracy": hit.astype(float),
        "nll": calibration.nll(logp, labels),
        "brier": calibration.brier(logp, labels),
        "entropy": fidelity.entropy(logp),
        "macro_f1": linearised.macro_f1(predicted, labels),
        "ece": calibration.ece_by_item(confidence, hit),
        "ece_scaled": scaled,
    }
    if logp.shape[-1] > 5:
        columns["top5"] = task.top_k_hits(logp, labels).astype(float)
    return _One(columns, logp, (predicted, hit), confidence, temperature)


def _written(result: SeedResult) -> _One:
    columns = dict(result.items)
    if not result.finals:
        return _One(columns)
    columns["follows_steps"] = rationales.follows_steps(result.texts, result.finals)
    predicted = np.array([_number(text) for text in result.finals])
    answers = predicted, columns["accuracy"].astype(bool)
    return _One(columns, answers=answers, texts=result.texts)


def _number(text: str) -> int:
    """The same number for the same text, in every arm and every run."""
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest())


def _scaled(
    logits: Float[np.ndarray, "n v"], held: Validation | None, hit: Bool[np.ndarray, " n"]
) -> tuple[float, Float[np.ndarray, " n"]]:
    """The temperature fitted on validation items, and the calibration error with it."""
    if held is None or len(held.labels) == 0:
        return float("nan"), np.full(len(hit), np.nan)
    temperature = calibration.fit_temperature(held.logits, held.labels)
    logp = calibration.log_probabilities(logits.astype(np.float64) / temperature)
    return temperature, calibration.ece_by_item(np.exp(logp.max(axis=-1)), hit)


def _beside(own: _One, master: _One) -> _Columns:
    """Measures beside the teacher."""
    found: _Columns = {}
    if own.answers is not None and master.answers is not None:
        found |= columns_of(own.answers, master.answers)
    if own.logp is not None and master.logp is not None:
        found |= _alike_in_probabilities(own.logp, master.logp)
    if own.confidence is not None and master.confidence is not None:
        both = own.confidence, master.confidence
        found["confidence_correlation"] = linearised.correlation(*both)
    if own.texts and master.texts:
        found |= rationales.rationale_scores(own.texts, master.texts)
    if "length" in own.columns and "length" in master.columns:
        found["length_drift"] = own.columns["length"] - master.columns["length"]
    return found


def _beyond_chance(seeds: Sequence[_One], masters: Sequence[_One]) -> dict[str, Any]:
    """`Scores.alike` and `Scores.untold` of an arm beside its teacher."""
    own, master = _answered(seeds), _answered(masters)
    if own is None or master is None:
        return {}
    sides = {
        "kappa": alike(own.predicted, master.predicted),
        "error_consistency": alike(own.hit, master.hit),
    }
    why = too_few_errors(own.hit, master.hit)
    names = ("error_consistency", "error_consistency_bound")
    return {"alike": sides, "untold": dict.fromkeys(names, why) if why else {}}


def _beyond(own: _One, master: _One, other: _One, columns: _Columns) -> _Columns:
    """What is shared with the teacher beyond what is shared with an independent one."""
    found: _Columns = {}
    if own.answers is not None and master.answers is not None and other.answers is not None:
        each = own.answers[0], master.answers[0], other.answers[0]
        found["rival_agreement"] = fidelity.same_answer(each[0], each[2]).astype(float)
        found["specific"] = fidelity.specific(*each)
    elif {"agreement", "rival_agreement"} <= set(columns):
        found["specific"] = columns["agreement"] - columns["rival_agreement"]
    if {"token_agreement", "rival_token_agreement"} <= set(columns):
        found["token_specific"] = columns["token_agreement"] - columns["rival_token_agreement"]
    return found


def _alike_in_probabilities(
    own: Float[np.ndarray, "n v"], master: Float[np.ndarray, "n v"]
) -> _Columns:
    found = {
        "kl_teacher_model": fidelity.kl(master, own),
        "kl_model_teacher": fidelity.kl(own, master),
        "js": fidelity.jensen_shannon(own, master),
        "acceptance": fidelity.acceptance(own, master),
        "entropy_drift": fidelity.entropy(own) - fidelity.entropy(master),
    }
    if own.shape[-1] > 2:
        found |= {
            "kendall_top5": rankings.kendall_of_top(master, own, PLACES),
            "jaccard_top5": rankings.jaccard(master, own, PLACES),
            "rbo": rankings.rank_biased_overlap(master, own, 2 * PLACES),
        }
    return found


def good_of(scores: Scores, primary: str) -> Any:
    """What more of is better [s, n]: hits where there are any, so that they are tested as such."""
    column = scores.good(primary)
    return column.astype(bool) if np.isin(column, (0.0, 1.0)).all() else column


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
