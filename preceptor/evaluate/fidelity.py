"""How like its teacher a student is, apart from how good it is.

Two models that are merely both good agree on what both get right, so agreement stands beside a
chance-corrected measure and beside the same measure of a control that never met the teacher
(Stanton et al., "Does Knowledge Distillation Really Work?", NeurIPS 2021, arXiv:2106.05945).

Dimension key: *s seeds, n items, v classes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp


@dataclass(frozen=True)
class ErrorConsistency:
    """kappa over right and wrong, and the largest kappa that the two accuracies allow."""

    kappa: float
    bound: float


def same_answer(
    first: Int[np.ndarray, "*s n"], second: Int[np.ndarray, "*s n"]
) -> Bool[np.ndarray, "*s n"]:
    """Whether both predict one class; its mean is the agreement."""
    return first == second


def agreement_on_errors(
    student: Int[np.ndarray, " n"], teacher: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> float:
    """P(student = teacher | teacher wrong): copied errors; NaN where the teacher makes none."""
    wrong = teacher != labels
    return float((student == teacher)[wrong].mean()) if wrong.any() else float("nan")


def cohen_kappa(first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"]) -> float:
    """(A - A_e) / (1 - A_e), A the agreement and A_e = sum_v P_first(v) P_second(v).

    Cohen (1960). 1 for the same answers, 0 for chance; NaN where both give one class throughout.
    """
    classes = int(max(first.max(), second.max())) + 1
    counts = [np.bincount(side, minlength=classes) / len(side) for side in (first, second)]
    return _above(float((first == second).mean()), float(counts[0] @ counts[1]))


def error_consistency(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]
) -> ErrorConsistency:
    """Whether two models fail on the same items more than their accuracies make likely.

    kappa = (c - c_e) / (1 - c_e), c = P(both right or both wrong) and
    c_e = a b + (1 - a) (1 - b): Geirhos et al. (2020), arXiv:2006.16736, equations 1 to 3. As
    c <= 1 - |a - b|, kappa has a bound below 1 where the accuracies differ.
    """
    a, b = first.mean(), second.mean()
    by_chance = float(a * b + (1 - a) * (1 - b))
    return ErrorConsistency(
        kappa=_above(float((first == second).mean()), by_chance),
        bound=_above(float(1 - abs(a - b)), by_chance),
    )


def _above(seen: float, by_chance: float) -> float:
    return (seen - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def kl(
    logp: Float[np.ndarray, "*s n v"], logq: Float[np.ndarray, "*#s n v"]
) -> Float[np.ndarray, "*s n"]:
    """KL(p || q) from log-probabilities: one number an item, in nats."""
    return (np.exp(logp) * (logp - logq)).sum(axis=-1)


def jensen_shannon(
    logp: Float[np.ndarray, "*s n v"], logq: Float[np.ndarray, "*#s n v"]
) -> Float[np.ndarray, "*s n"]:
    """(KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2: from 0 to log 2, in nats."""
    logq = np.broadcast_to(logq, logp.shape)
    middle = logsumexp(np.stack([logp, logq]), axis=0) - np.log(2.0)
    return (kl(logp, middle) + kl(logq, middle)) / 2


def confidence_correlation(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]
) -> float:
    """Pearson's correlation of two models' confidences max p; NaN where one never varies."""
    if first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
