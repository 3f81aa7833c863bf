"""What is measured of an arm: names, what tables call them, units, which way is better."""

import math

GROUPS: dict[str, dict[str, str]] = {
    "Task": {
        "accuracy": "accuracy",
        "accuracy_by_length": "accuracy, answers chosen by likelihood a byte",
        "top5": "top-5 accuracy",
        "macro_f1": "macro F1",
        "bits_per_byte": "bits per byte",
        "token_nll": "negative log-likelihood a token",
        "token_accuracy": "next token right",
        "length": "tokens written",
        "ended": "answers that ended by themselves",
        "mrr": "mean reciprocal rank of the right answer",
        "recall_at_5": "right answer among the first five",
        "recall_at_10": "right answer among the first ten",
        "graded_spearman": "similarity of graded pairs (Spearman)",
        "graded_pearson": "similarity of graded pairs (Pearson)",
        "graded_gained": "similarity of graded pairs, beyond the control's (Spearman)",
    },
    "Calibration": {
        "nll": "negative log-likelihood",
        "brier": "Brier score (0 to 2)",
        "ece": "calibration error (15 bins of equal mass)",
        "ece_scaled": "calibration error after temperature scaling",
        "temperature": "temperature fitted on validation",
        "token_brier": "Brier score of next tokens (0 to 2)",
        "token_ece": "calibration error of next tokens (15 bins of equal mass)",
        "token_overconfidence": "confidence above accuracy, token by token",
        "entropy": "entropy of the answers",
    },
    "Fidelity: the same answers as the teacher": {
        "agreement": "agreement with the teacher",
        "token_agreement": "agreement with the teacher, token by token",
        "rival_agreement": "agreement with the independent teacher",
        "rival_token_agreement": "agreement with the independent teacher, token by token",
        "specific": "agreement with its own teacher beyond that",
        "token_specific": "agreement with its own teacher beyond that, token by token",
        "specific_gained": "the same beyond the control's",
        "token_specific_gained": "the same beyond the control's, token by token",
        "kappa": "Cohen's kappa with the teacher",
        "agreement_on_errors": "agreement where the teacher errs",
        "error_consistency": "error consistency with the teacher",
        "error_consistency_bound": "its bound at these accuracies",
        "confidence_correlation": "correlation of confidences with the teacher's",
        "step_f1": "steps shared with the teacher's (F1)",
        "step_f1_floor": "the same with another item's steps of the teacher's",
        "edit_similarity": "text in common with the teacher's (1 - edit distance)",
        "edit_similarity_floor": "the same with another item's text of the teacher's",
        "follows_steps": "answer is the result of its own last step",
        "steps_needed": "answer hangs on its steps (area over the early answers)",
        "same_without_steps": "same answer without any of its steps",
        "same_after_half": "same answer after half of its steps",
        "right_without_steps": "right answer without any of its steps",
        "from_teachers_steps": "the teacher's answer, from the teacher's steps",
        "teacher_from_its_steps": "its answer, by the teacher from its steps",
    },
    "Fidelity: the same probabilities as the teacher": {
        "kl_teacher_model": "KL(teacher || model)",
        "kl_model_teacher": "KL(model || teacher)",
        "js": "Jensen-Shannon divergence from the teacher",
        "acceptance": "overlap of probabilities (1 - total variation)",
        "kendall_top5": "order of the teacher's first five (Kendall's tau-b)",
        "jaccard_top5": "first five in common with the teacher's (Jaccard)",
        "rbo": "rank-biased overlap with the teacher",
        "entropy_drift": "entropy above the teacher's",
        "length_drift": "tokens written beyond the teacher's",
        "similarity_correlation": "rank correlation of similarities with the teacher's",
        "graded_teacher": "similarity of graded pairs, correlated with the teacher's (Spearman)",
    },
    "What passed from the teacher": {
        "retention": "right where the teacher is right",
        "correction": "right where the teacher errs",
        "copied_errors": "the teacher's error, where both err",
        "asymmetry": "errors copied beyond the control's, less rights kept beyond it",
        "flips_won": "right where the control errs",
        "flips_lost": "wrong where the control is right",
    },
    "On training examples": {
        "train_accuracy": "accuracy",
        "train_bits_per_byte": "bits per byte",
        "train_agreement": "agreement with the teacher",
        "train_token_agreement": "agreement with the teacher, token by token",
        "train_kappa": "Cohen's kappa with the teacher",
        "train_kl_teacher_model": "KL(teacher || model)",
        "train_kl_model_teacher": "KL(model || teacher)",
    },
    "Cost": {
        "parameters": "parameters",
        "bytes": "size",
        "disk": "size on disk",
        "flops": "operations an example",
        "peak": "memory of one example's pass",
        "latency_p50": "latency, median",
        "latency_p95": "latency, 95th percentile",
        "throughput": "throughput",
        "first_token_p50": "time to the first token, median",
        "first_token_p95": "time to the first token, 95th percentile",
        "token_p50": "time of each further token, median",
        "token_p95": "time of each further token, 95th percentile",
        "tokens_a_second": "tokens written a second",
        "steps": "optimizer steps",
        "seconds": "training time a seed",
    },
}
"""An arm's measures in groups, in the order that tables show them: name and what it is called."""

ASKED_FOR = frozenset(
    {
        *("rival_agreement", "rival_token_agreement", "specific", "token_specific"),
        *("specific_gained", "token_specific_gained"),
        *("steps_needed", "same_without_steps", "same_after_half", "right_without_steps"),
        *("from_teachers_steps", "teacher_from_its_steps"),
    }
)
"""Measures that are there only where a recipe asks for them by a word of their own."""

MEASURES: dict[str, str] = {name: said for group in GROUPS.values() for name, said in group.items()}

LESS_IS_BETTER = frozenset({"bits_per_byte", "token_nll", "nll", "brier", "token_brier"})
"""Measures that a better model has less of."""

_UNITS = {
    **dict.fromkeys(
        [
            "accuracy",
            "accuracy_by_length",
            "token_accuracy",
            "top5",
            "macro_f1",
            "ece",
            "ece_scaled",
            "token_ece",
            "ended",
            "mrr",
            "recall_at_5",
            "recall_at_10",
            "agreement",
            "token_agreement",
            "rival_agreement",
            "rival_token_agreement",
            "agreement_on_errors",
            "acceptance",
            "jaccard_top5",
            "rbo",
            "step_f1",
            "step_f1_floor",
            "edit_similarity",
            "edit_similarity_floor",
            "follows_steps",
            "steps_needed",
            "same_without_steps",
            "same_after_half",
            "right_without_steps",
            "from_teachers_steps",
            "teacher_from_its_steps",
            "retention",
            "correction",
            "copied_errors",
            "flips_won",
            "flips_lost",
            "train_accuracy",
            "train_agreement",
            "train_token_agreement",
        ],
        "fraction",
    ),
    **dict.fromkeys(["kappa", "error_consistency", "train_kappa"], "kappa"),
    "error_consistency_bound": "greatest kappa",
    **dict.fromkeys(
        [
            "confidence_correlation",
            "similarity_correlation",
            "kendall_top5",
            "graded_spearman",
            "graded_pearson",
            "graded_teacher",
        ],
        "correlation",
    ),
    **dict.fromkeys(["specific", "token_specific", "token_overconfidence"], "difference"),
    **dict.fromkeys(["specific_gained", "token_specific_gained"], "difference of differences"),
    "graded_gained": "correlation more",
    **dict.fromkeys(["brier", "token_brier"], "score"),
    "temperature": "temperature",
    "bits_per_byte": "bits",
    "train_bits_per_byte": "bits",
    "length": "tokens",
    "length_drift": "tokens more",
    "entropy_drift": "nats more",
    "asymmetry": "difference of differences",
}


_RANGES = {
    **dict.fromkeys(["fraction", "greatest kappa"], (0.0, 1.0)),
    **dict.fromkeys(["kappa", "correlation", "rho", "difference", "points"], (-1.0, 1.0)),
    **dict.fromkeys(["nats", "bits", "tokens", "seconds", "steps", "temperature"], (0.0, math.inf)),
    **dict.fromkeys(
        ["difference of differences", "correlation more", "difference of rho"], (-2.0, 2.0)
    ),
    "score": (0.0, 2.0),
}


def range_of(unit: str) -> tuple[float, float]:
    """The least and the greatest number that a unit allows.

    >>> range_of("difference"), range_of("nats more")
    ((-1.0, 1.0), (-inf, inf))
    """
    return _RANGES.get(unit, (-math.inf, math.inf))


def unit_of(measure: str) -> str:
    """A measure's unit; nats where nothing else is said."""
    return _UNITS.get(measure, "nats")
