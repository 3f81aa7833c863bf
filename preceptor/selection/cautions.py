"""What breaks a score, in sentences that name the candidate and the figure.

Dimension key: n responses, d numbers a sketch, p prompts.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int64

from preceptor.selection.directions import directions_of
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.means import DuplicateRate, GNorm, MeanLength
from preceptor.selection.texts import NGRAM

DUPLICATES = 0.1
"""More responses than this that repeat another one are told."""

COPIES = 0.05
"""More responses than this with the text of an answer to another prompt are told."""

REPETITIVE = 0.5
"""A response more of whose n-grams than this stood in it before is repetitive."""

REPETITIVE_RESPONSES = 0.05
"""More of them than this are told."""

TERSE = 0.5
"""Responses shorter than this share of the middle candidate's are told."""

BIASED = 2.0
"""A bias part of more than this times GRACE / d is told.

Were a gradient's size independent of its direction, it could not exceed once: with m the mean
direction, S is at least m m^T, so that m^T S^-1 m is at most 1, and GRACE is at least d G-Norm.
"""

FILLED = 0.5
"""More dimensions than this share of the effective rows make the second moment near singular."""

UNEQUAL = 1.1
"""A candidate with so many times the responses of another is told."""

_HELD_IN = 0.9  # What a tenth held out leaves.


def cautions_about(candidates: Mapping[str, Features]) -> tuple[str, ...]:
    """All that is to be said of each candidate, in their order."""
    lengths = {name: MeanLength().value(features) for name, features in candidates.items()}
    sizes = {name: GNorm().value(features) for name, features in candidates.items()}
    middle = float(np.median(list(lengths.values())))
    sentences = list(_of_rows(candidates))
    for name, features in candidates.items():
        size = _of_size(name, sizes)
        sentences += _of_text(name, features, size)
        if lengths[name] < TERSE * middle:
            sentences.append(
                f"{name} is terse: {lengths[name]:.0f} tokens a response, where the middle "
                f"candidate writes {middle:.0f}{size}."
            )
        if len(features) == len(features.every_prompt) and (features.lengths > 1).any():
            sentences.append(  # An image has one answer.
                f"{name} has one response a prompt; how alike its responses to a prompt are is not "
                "seen. Give two or more, 4 as in the paper."
            )
        sentences += cautions_about_gradients(name, features)
    return tuple(sentences)


def _of_rows(candidates: Mapping[str, Features]) -> Iterator[str]:
    fewest = min(candidates, key=lambda name: len(candidates[name]))
    most = max(candidates, key=lambda name: len(candidates[name]))
    few, many = len(candidates[fewest]), len(candidates[most])
    if many > UNEQUAL * few:
        yield (
            f"{most} has {many} responses and {fewest} {few} to the same prompts; GRACE falls as "
            "rows become many for the dimension. Keep as many of each (`with_responses`)."
        )


def _of_size(name: str, sizes: Mapping[str, float]) -> str:
    """What the size of a candidate's gradients does to its GRACE, beside the others'; or nothing.

    Neither repetition nor shortness tells it: an untrained student finds both surprising.
    """
    others = [size for other, size in sizes.items() if other != name]
    if not others:
        return ""
    own, usual = sizes[name], float(np.median(others))
    how, does = ("smaller", "lowers") if own < usual else ("larger", "raises")
    return (
        f"; its gradients are {how} than the others' (g_norm {own:.4g}, where theirs is "
        f"{usual:.4g} in the middle), which {does} GRACE, whatever the text teaches"
    )


def _of_text(name: str, features: Features, size: str) -> Iterator[str]:
    if (again := DuplicateRate().value(features)) > DUPLICATES:
        yield (
            f"{name}: {_percent(again)} of its responses repeat another response to the same "
            "prompt word for word; GRACE rises with near-duplicates, and training would see less "
            "text than it counts."
        )
    if (copied := copies(features)) > COPIES:
        yield (
            f"{name}: {_percent(copied)} of its responses have the text of an answer to another "
            "prompt; text that does not depend on the prompt can score well and teach nothing."
        )
    if (share := float((features.repetitions > REPETITIVE).mean())) > REPETITIVE_RESPONSES:
        yield (
            f"{name}: {_percent(share)} of its responses are repetitive (more than half of their "
            f"{NGRAM}-grams stood in them before){size}."
        )


def cautions_about_gradients(name: str, features: Features) -> Iterator[str]:
    """What is to be said of one candidate, whatever its text."""
    d, counts = features.probe.dimension, np.unique(features.prompts, return_counts=True)[1]
    if sentence := crowded(d, counts, within_prompt_similarity(features)):
        yield f"{name}: {sentence}"
    if len(counts) < Grace().folds:
        return
    whole, bias = Grace().value(features), Grace(part="bias").value(features)
    if (times := d * bias / whole) > BIASED:
        yield (
            f"{name}: the bias part of its GRACE is {times:.1f} times GRACE / d, where at most "
            "once is usual: a few large gradients, in directions that the others lack, make the "
            "mean, as with broken text. Read the responses whose loss is highest."
        )


def crowded(dimension: int, counts: Int64[np.ndarray, " p"], alike: float) -> str | None:
    """That the sketches are too wide for their rows, with what would do; None where they are not.

    Args:
        dimension: numbers a sketch.
        counts: how many responses each prompt has, at least 1.
        alike: their similarity within a prompt, 0 to 1.
    """
    rows = _effective(counts, alike)
    if dimension <= FILLED * rows:
        return None
    prompts = len(counts)
    regime = "are near the singular regime, where the smoothing decides"
    if dimension >= rows:
        regime = "leave directions in which no row lies: the smoothing decides, not the text"
    return (
        f"{dimension} dimensions for {rows:.0f} effective rows ({prompts} prompts, "
        f"{counts.sum()} responses, similarity within a prompt {alike:.2f}) {regime}. Give "
        f"{int(np.ceil(prompts * dimension / (FILLED * rows)))} prompts, or narrow the sketches "
        f"to {max(1, int(FILLED * rows))} numbers (narrow)."
    )


def copies(features: Features) -> float:
    """The share of responses whose text answers another prompt too."""
    pairs = np.unique(np.stack([features.texts, features.prompts], axis=1), axis=0)
    texts, count = np.unique(pairs[:, 0], return_counts=True)
    return float(np.isin(features.texts, texts[count > 1]).mean())


def within_prompt_similarity(features: Features) -> float:
    """rho: the mean cosine of two gradients of one prompt, beyond that of two prompts'; 0 to 1.

    0 where every prompt has one response.
    """
    rows = directions_of(features, length_factor=False)
    sums = np.zeros((len(rows.counts), rows.u.shape[1]))
    np.add.at(sums, rows.prompt, rows.u)
    squares = (rows.u**2).sum()
    same, within = float((rows.counts * (rows.counts - 1)).sum()), (sums**2).sum()
    other, total = float(rows.counts.sum() ** 2 - (rows.counts**2).sum()), sums.sum(axis=0)
    if not same:
        return 0.0
    here, there = (within - squares) / same, (total @ total - within) / other
    return float(np.clip((here - there) / max(1 - there, 1e-12), 0, 1))


def effective_rows(features: Features) -> float:
    """0.9 n / (1 + (m - 1) rho): rows of the second moment, those of one prompt counted as alike.

    m is the mean number of responses of a response's prompt.
    """
    counts = np.unique(features.prompts, return_counts=True)[1]
    return _effective(counts, within_prompt_similarity(features))


def _effective(counts: Int64[np.ndarray, " p"], alike: float) -> float:
    m = float((counts**2).sum() / counts.sum())
    return _HELD_IN * float(counts.sum()) / (1 + (m - 1) * alike)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
