"""How like its teacher a student is, apart from how good it is.

Two models that are merely both good agree on what both get right, so agreement stands beside a
chance-corrected measure and beside the same measure of a control that never met the teacher
(Stanton et al., "Does Knowledge Distillation Really Work?", NeurIPS 2021, arXiv:2106.05945).

Measures that are no mean over items have columns that stand for them in `ops.linearised`.

Dimension key: *s seeds, n items, v classes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import logsumexp

from preceptor.ops import linearised


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


def specific(
    own: Shaped[np.ndarray, "*s n"],
    teacher: Shaped[np.ndarray, "*#s n"],
    other: Shaped[np.ndarray, "*#s n"],
) -> Float[np.ndarray, "*s n"]:
    """1 where a student answers as its own teacher alone, -1 as an independent one alone, else 0.

    The mean is A(t, s) - A(t', s): what the student shares with its teacher beyond what it shares
    with another that is as good (Stanton et al., section 4). Answers are classes, or texts.

    >>> specific(np.array([1, 2, 3]), np.array([1, 2, 0]), np.array([1, 0, 3]))
    array([ 0.,  1., -1.])
    """
    return (own == teacher).astype(float) - (own == other)


def agreement_on_errors(
    student: Int[np.ndarray, " n"], teacher: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> float:
    """P(student = teacher | teacher wrong): copied errors; NaN where the teacher makes none."""
    wrong = teacher != labels
    return float((student == teacher)[wrong].mean()) if wrong.any() else float("nan")


def cohen_kappa(first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " n"]) -> float:
    """(A - A_e) / (1 - A_e), A the agreement and A_e = sum_v P_first(v) P_second(v).

    Cohen (1960); answers are classes, or texts. 1 for the same answers, 0 for chance; NaN where
    both give one answer throughout.
    """
    return float(linearised.kappa(first, second).mean())


def error_consistency(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]
) -> ErrorConsistency:
    """Whether two models fail on the same items more than their accuracies make likely.

    kappa = (c - c_e) / (1 - c_e), c = P(both right or both wrong) and
    c_e = a b + (1 - a) (1 - b): Geirhos et al. (2020), arXiv:2006.16736, equations 1 to 3. As
    c <= 1 - |a - b|, kappa has a bound below 1 where the accuracies differ.
    """
    return ErrorConsistency(
        kappa=float(linearised.kappa(first, second).mean()),
        bound=float(linearised.kappa_bound(first, second).mean()),
    )


def entropy(logp: Float[np.ndarray, "*s n v"]) -> Float[np.ndarray, "*s n"]:
    """-sum_v p log p: how unsure a model is, one number an item, in nats.

    >>> entropy(np.log([[0.5, 0.5]])).round(4)
    array([0.6931])
    """
    return -(np.exp(logp) * np.where(np.isfinite(logp), logp, 0.0)).sum(axis=-1)


def acceptance(
    logp: Float[np.ndarray, "*s n v"], logq: Float[np.ndarray, "*#s n v"]
) -> Float[np.ndarray, "*s n"]:
    """sum_v min(p, q) = 1 - total variation: from 0 to 1.

    The share of the student's draws that the teacher keeps in speculative decoding: Yaniv
    Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023,
    theorem 3.5.

    >>> acceptance(np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])).round(4)
    array([0.6])
    """
    return np.exp(np.minimum(logp, logq)).sum(axis=-1)


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
    return float(linearised.correlation(first, second).mean())
