"""GRACE without each prompt in turn, for little more than GRACE itself.

Leaving the m rows U of a prompt out of n turns the smoothed moment a S + b I into
a n / (n - m) times F - U^T U / n, with F = S + b (n - m) / (a n) I: one factorisation for all
prompts that have m rows, and an m x m system for each (Woodbury's identity).

Where gradients are scored less their mean, that mean moves by delta too, and a mean of x^T Q x over
the scored rows x by 2 s delta^T Q mean(x) + delta^T Q delta, with s = 1 where they are the mean
itself (the bias) and -1 where they are the rest (the variance).

Dimension key: n responses, d numbers a sketch, p prompts, t rows held out, q prompts of m rows.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.linalg import cholesky, solve_triangular

from preceptor.selection.directions import Directions
from preceptor.selection.features import Features

if TYPE_CHECKING:
    from preceptor.selection.grace import Grace, Split


class _Shift(NamedTuple):
    """How far the mean of all gradients moves without each prompt, and s."""

    delta: Float64[np.ndarray, "p d"]
    sign: int


def grace_left_out(score: "Grace", features: Features) -> Float64[np.ndarray, " p"]:
    """The score without each prompt, ascending; the folds of the others stay.

    Exact where no gradient is zero; elsewhere the released code's smoothing is held fixed.
    """
    rows, every = score.rows(features), features.every_prompt
    held_out = score.held_out(every)
    shift = None if score.part == "whole" else _shift(rows, -1 if score.part == "variance" else 1)
    left = np.empty((len(held_out), len(every)))
    for split, out, numbers in zip(score.splits(rows, held_out), held_out, left, strict=True):
        numbers[out] = _without_scored(rows, split, shift)[out]
        numbers[~out] = _without_rest(rows, split, shift)[~out]
    # A split that holds a single prompt out is gone where that prompt is.
    return np.nanmean(left, axis=0)


def _shift(rows: Directions, sign: int) -> _Shift:
    sums = np.zeros((len(rows.counts), rows.h.shape[1]))
    np.add.at(sums, rows.prompt, rows.h)
    counts, mean = rows.counts[:, None], rows.h.mean(axis=0)
    return _Shift((counts * mean - sums) / (len(rows.h) - counts), sign)


def _without_scored(
    rows: Directions, split: "Split", shift: _Shift | None
) -> Float64[np.ndarray, " p"]:
    """For prompts that are held out: NaN where it is the only one."""
    half = cholesky(split.score.smoothed(split.rest), lower=True)
    scored = solve_triangular(half, split.scored.T, lower=True).T  # [t, d]
    theirs = rows.prompt[split.test]

    def without(numbers: Float64[np.ndarray, " t"]) -> Float64[np.ndarray, " p"]:
        gone = np.bincount(theirs, split.weight * numbers, minlength=len(rows.counts))
        share = 1 - np.bincount(theirs, split.weight, minlength=len(rows.counts))
        left = np.full(len(share), np.nan)
        return np.divide(split.weight @ numbers - gone, share, out=left, where=share > 1e-12)

    left = without((scored**2).sum(axis=1))
    if shift is not None:
        delta = solve_triangular(half, shift.delta.T, lower=True).T  # [p, d]
        mean = np.stack([without(column) for column in scored.T], axis=1)
        left += (delta * (2 * shift.sign * mean + delta)).sum(axis=1)
    return left


def _without_rest(
    rows: Directions, split: "Split", shift: _Shift | None
) -> Float64[np.ndarray, " p"]:
    """For prompts that the others are scored against; in the coordinates of F^-1/2."""
    scale, added = split.score.smoothing_of(split.rest)
    left, n, d = np.zeros(len(rows.counts)), split.mass, len(split.rest)
    for m in np.unique(rows.counts).tolist():
        share = (n - m) / (scale * n)
        half = cholesky(split.rest + added * share * np.eye(d), lower=True)
        scored = solve_triangular(half, split.scored.T, lower=True) * np.sqrt(split.weight)
        mean = scored @ np.sqrt(split.weight)
        if len(split.weight) > d:  # As many columns as numbers have the same X X^T.
            scored = np.asarray(np.linalg.qr(scored.T, mode="r")).T
        places, members = rows.with_rows(m)
        u = solve_triangular(half, rows.u[members].T, lower=True).T
        by_prompt = u.reshape(-1, m, d)
        inner = n * np.eye(m) - by_prompt @ by_prompt.transpose(0, 2, 1)
        onto = (u @ scored).reshape(len(places), m, -1)
        more = _quadratic(inner, onto, onto)
        if shift is not None:
            delta = solve_triangular(half, shift.delta[places].T, lower=True).T  # [q, d]
            other = 2 * shift.sign * mean + delta
            first, second = by_prompt @ delta[..., None], by_prompt @ other[..., None]
            more += (delta * other).sum(axis=1) + _quadratic(inner, first, second)
        left[places] = share * ((scored**2).sum() + more)
    return left


def _quadratic(
    inner: Float64[np.ndarray, "q m m"],
    first: Float64[np.ndarray, "q m k"],
    second: Float64[np.ndarray, "q m k"],
) -> Float64[np.ndarray, " q"]:
    """The trace of first^T inner^-1 second, for each prompt."""
    product = second @ first.transpose(0, 2, 1)
    return np.trace(np.linalg.solve(inner, product), axis1=1, axis2=2)
