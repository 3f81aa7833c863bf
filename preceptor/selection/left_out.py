"""GRACE without each prompt in turn, for little more than GRACE itself.

Leaving the m rows U of a prompt out of n turns the smoothed moment a S + b I into
a n / (n - m) times F - U^T U / n, with F = S + b (n - m) / (a n) I: one factorisation for all
prompts that have m rows, and an m x m system for each (Woodbury's identity).

Dimension key: d numbers a sketch, p prompts, q prompts with m rows each, t rows held out.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from scipy.linalg import cholesky, solve_triangular

from preceptor.selection.directions import Directions
from preceptor.selection.features import Features

if TYPE_CHECKING:
    from preceptor.selection.grace import Grace, Split


def grace_left_out(score: "Grace", features: Features) -> Float64[np.ndarray, " p"]:
    """The score without each prompt, ascending.

    Exact for the whole; of its parts, the mean of all gradients moves too, and what it changes is
    added to what the prompt itself changes, which leaves terms of order 1 / p^2 out.
    """
    rows, every = score.rows(features), features.every_prompt
    held_out = score.held_out(every)
    moved = _moved_mean(rows) if score.part != "whole" else None
    left = np.empty((len(held_out), len(every)))
    for split, out, numbers in zip(score.splits(rows, held_out), held_out, left, strict=True):
        numbers[:] = np.where(out, _without_scored(rows, split), _without_rest(rows, split))
        if moved is not None:
            numbers += _by_the_mean(split, moved, -1 if score.part == "variance" else 1)
    # A split that holds one prompt out is gone where that prompt is.
    return np.nanmean(left, axis=0)


def _without_scored(rows: Directions, split: "Split") -> Float64[np.ndarray, " p"]:
    """Where the prompt is one of those held out: NaN where it is the only one."""
    weighted = np.zeros(len(rows.prompt))
    share = np.zeros(len(rows.prompt))
    share[split.test] = split.weight
    weighted[split.test] = split.weight * split.of_rows()
    gone, rest = rows.per_prompt(weighted), 1 - rows.per_prompt(share)
    left = np.full(len(rest), np.nan)
    return np.divide(weighted.sum() - gone, rest, out=left, where=rest > 1e-12)


def _without_rest(rows: Directions, split: "Split") -> Float64[np.ndarray, " p"]:
    """Where the prompt is one of those that the others are scored against."""
    scale, added = split.score.smoothing_of(split.rest)
    left, n = np.zeros(len(rows.counts)), split.mass
    identity = np.eye(len(split.rest))
    for m in np.unique(rows.counts).tolist():
        share = (n - m) / (scale * n)
        half = cholesky(split.rest + added * share * identity, lower=True)
        scored = solve_triangular(half, split.scored.T, lower=True) * np.sqrt(split.weight)
        places, members = rows.with_rows(m)
        theirs = solve_triangular(half, rows.u[members].T, lower=True).T
        # In the coordinates of F^-1/2 the prompt's rows are V [q, m, d] and the scored ones X.
        v = theirs.reshape(-1, m, len(identity))
        onto = (theirs @ scored).reshape(len(v), m, -1)
        inner = n * np.eye(m) - v @ v.transpose(0, 2, 1)
        gain = np.linalg.solve(inner, onto @ onto.transpose(0, 2, 1))
        more = np.trace(gain, axis1=1, axis2=2)
        left[places] = share * ((scored**2).sum() + more)
    return left


def _moved_mean(rows: Directions) -> Float64[np.ndarray, "p d"]:
    """How far the mean of all gradients moves without each prompt."""
    sums = np.zeros((len(rows.counts), rows.h.shape[1]))
    np.add.at(sums, rows.prompt, rows.h)
    counts, mean = rows.counts[:, None], rows.h.mean(axis=0)
    return (counts * mean - sums) / (len(rows.h) - counts)


def _by_the_mean(
    split: "Split", moved: Float64[np.ndarray, "p d"], sign: int
) -> Float64[np.ndarray, " p"]:
    """What that changes: 2 sign delta^T S^-1 mean(x) + delta^T S^-1 delta."""
    half = cholesky(split.score.smoothed(split.rest), lower=True)
    of_mean = solve_triangular(half, split.weight @ split.scored, lower=True)
    of_move = solve_triangular(half, moved.T, lower=True)
    return 2 * sign * of_mean @ of_move + (of_move**2).sum(axis=0)
