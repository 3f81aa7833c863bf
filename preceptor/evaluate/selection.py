"""A report with only the parts that were asked for."""

from collections.abc import Collection
from dataclasses import replace

from preceptor.evaluate.report import Report, Undefined

_PARTS = {
    "calibration": ("nll", "brier", "ece", "ece_scaled", "temperature"),
    "fidelity": (
        "agreement",
        "token_agreement",
        "kappa",
        "agreement_on_errors",
        "error_consistency",
        "error_consistency_bound",
        "kl_teacher_model",
        "kl_model_teacher",
        "js",
        "confidence_correlation",
        "similarity_correlation",
    ),
    "cost": ("parameters", "bytes", "flops", "latency_p50", "latency_p95", "steps", "seconds"),
}


def selected(report: Report, parts: Collection[str]) -> Report:
    """The report without the measures of the parts that are not named.

    Parts are "calibration", "fidelity" and "cost"; accuracy and the verdict are always there.
    """
    dropped = {name for part, names in _PARTS.items() if part not in parts for name in names}
    arms = tuple(
        replace(arm, measures={k: v for k, v in arm.measures.items() if k not in dropped})
        for arm in report.arms
    )
    kept = replace(report, arms=arms)
    if "calibration" not in parts:
        kept = replace(kept, reliability=())
    if "fidelity" not in parts:
        kept = replace(kept, class_agreement=Undefined("fidelity was not asked for"))
    if "cost" not in parts:
        kept = replace(kept, ratios={}, timing="")
    return kept
