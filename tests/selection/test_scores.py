"""Every score against the definition, computed another way and in float64."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import linalg, stats

from preceptor.errors import DataError, RecipeError
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace, Mode
from preceptor.selection.leverage import LeverageRatio
from preceptor.selection.means import DuplicateRate, GNorm, MeanLength, MeanLoss, RankSurprisal
from preceptor.selection.ranking import EVERY_SCORE
from preceptor.selection.score import Score
from preceptor.selection.spectrum import GVendi, LogDeterminant
from tests.selection.random_features import isotropic, of_gradients, probe, ragged
from tests.selection.test_splits import MASK, splitmix

# Prompts, numbers a sketch: tall, square, wide (singular before smoothing), tiny.
REGULAR = [(40, 3), (60, 16), (150, 8), (300, 33)]
SINGULAR = [(12, 40), (10, 200), (30, 64), (11, 1)]


def directions(h: np.ndarray) -> np.ndarray:
    return h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)


def held_out_by_paper(features: Features, count: int, seed: int) -> list[np.ndarray]:
    """Rows that each fold holds out: prompts in the mixer's order, cut into near equal parts."""
    every = sorted(set(features.prompts.tolist()), key=lambda p: splitmix(p & MASK, seed))
    size, longer = divmod(len(every), count)
    cut, start = [], 0
    for fold in range(count):
        stop = start + size + (fold < longer)
        cut.append(np.isin(features.prompts, every[start:stop]))
        start = stop
    return cut


def held_out_by_release(features: Features) -> list[np.ndarray]:
    every = np.array(sorted(set(features.prompts.tolist())))
    n = len(every)
    tests = max(1, int(0.1 * n))
    orders = [np.random.default_rng(seed).permutation(n) for seed in range(10)]
    return [np.isin(features.prompts, every[order[n - tests :]]) for order in orders]


def by_eigenvalues(
    features: Features, mode: Mode, nu: float, part: str = "whole", folds: int = 10, seed: int = 0
) -> float:
    """GRACE by eigendecompositions and plain loops: shares no step with ours."""
    h = features.sketches.astype(np.float64)
    if mode == "paper":
        h = h * np.array([np.log(max(y, 2)) for y in features.lengths])[:, None]
    mean = h.mean(axis=0)
    scored = {"whole": h, "variance": h - mean, "bias": np.tile(mean, (len(h), 1))}[part]
    paper = mode == "paper"
    cuts = held_out_by_paper(features, folds, seed) if paper else held_out_by_release(features)
    found = []
    for test in cuts:
        u = directions(h[~test])
        eigenvalues, vectors = np.linalg.eigh(np.einsum("ni,nj->ij", u, u) / len(u))
        eigenvalues = np.maximum(eigenvalues, 0)
        if paper:
            smooth = eigenvalues + nu / len(eigenvalues)
        else:
            smooth = np.maximum((1 - nu) * eigenvalues + nu * eigenvalues.mean(), 1e-12)
        inverse = vectors @ np.diag(1 / smooth) @ vectors.T
        kernel = np.einsum("ni,nj->ij", scored[test], scored[test]) / test.sum()
        found.append(np.trace(inverse @ kernel))
    return float(np.mean(found))


@pytest.mark.parametrize("part", ["whole", "variance", "bias"])
@pytest.mark.parametrize("mode", ["paper", "released"])
@pytest.mark.parametrize(("prompts", "dimension"), REGULAR)
def test_grace_is_its_definition(prompts: int, dimension: int, mode: Mode, part: Any) -> None:
    features = ragged(prompts, dimension, seed=prompts)
    expected = by_eigenvalues(features, mode, 1e-3, part)
    assert Grace(mode=mode, part=part).value(features) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("mode", ["paper", "released"])
@pytest.mark.parametrize(("prompts", "dimension"), SINGULAR)
def test_grace_is_its_definition_where_smoothing_alone_holds_it(
    prompts: int, dimension: int, mode: Mode
) -> None:
    features = ragged(prompts, dimension, seed=prompts)
    expected = by_eigenvalues(features, mode, 1e-3)
    assert Grace(mode=mode).value(features) == pytest.approx(expected, rel=1e-6)
    smooth = Grace(mode=mode, smoothing=1e-6)
    assert smooth.value(features) == pytest.approx(by_eigenvalues(features, mode, 1e-6), rel=1e-6)


@pytest.mark.parametrize(("folds", "smoothing", "seed"), [(2, 1e-1, 0), (6, 1e-4, 3), (20, 1, 9)])
def test_folds_smoothing_and_seed_are_what_they_say(
    folds: int, smoothing: float, seed: int
) -> None:
    features = ragged(50, 9)
    got = Grace(folds=folds, smoothing=smoothing, seed=seed).value(features)
    expected = by_eigenvalues(features, "paper", smoothing, folds=folds, seed=seed)
    assert got == pytest.approx(expected, rel=1e-10)


def test_grace_of_one_number_is_by_hand() -> None:
    # One dimension: every direction is +-1, so that S = 1 + nu and GRACE is the mean of h^2 over
    # folds, divided by it. Two folds of one prompt each; ln max(|y|, 2) is 1 for e tokens or so.
    features = of_gradients(np.array([[3.0], [-4.0]]), np.array([0, 1]), lengths=np.array([1, 2]))
    factor = np.log(2) ** 2
    got = Grace(folds=2, smoothing=0.25).value(features)
    assert got == pytest.approx(factor * (9 + 16) / 2 / 1.25, rel=1e-12)
    parts = [Grace(folds=2, smoothing=0.25, part=part) for part in ("variance", "bias")]
    variance, bias = (part.value(features) for part in parts)
    assert variance == pytest.approx(factor * 3.5**2 / 1.25, rel=1e-12)
    assert bias == pytest.approx(factor * 0.25 / 1.25, rel=1e-12)


def test_variance_and_bias_add_up_to_the_whole_but_for_a_cross_term() -> None:
    features = isotropic(200, 3, 12, alike=0.4, common=0.4)
    whole, variance, bias = (
        Grace(part=part).value(features) for part in ("whole", "variance", "bias")
    )
    assert bias > 0.05 * whole
    assert variance + bias == pytest.approx(whole, rel=0.02)


@pytest.mark.parametrize("score", EVERY_SCORE, ids=lambda score: score.name)
def test_the_order_of_rows_changes_nothing(score: Score) -> None:
    features = ragged(30, 6)
    order = np.random.default_rng(1).permutation(len(features))
    columns = ("sketches", "prompts", "lengths", "losses", "rank_sums", "texts", "repetitions")
    shuffled = replace(features, **{name: getattr(features, name)[order] for name in columns})
    assert score.value(shuffled) == pytest.approx(score.value(features), rel=1e-9)


@pytest.mark.parametrize("score", EVERY_SCORE, ids=lambda score: score.name)
def test_a_prompt_of_weight_two_is_a_prompt_that_stands_there_twice(score: Score) -> None:
    features = ragged(30, 6)
    weights = np.ones(30)
    weights[4] = 2
    twice = np.concatenate([np.arange(len(features)), np.flatnonzero(features.prompts == 31)])
    columns = ("sketches", "prompts", "lengths", "losses", "rank_sums", "texts", "repetitions")
    doubled = replace(features, **{name: getattr(features, name)[twice] for name in columns})
    if isinstance(score, DuplicateRate):  # Its prompt is drawn twice, not its text written twice.
        again = np.isin(features.prompts, 31) * score.columns(features)[0]
        expected = (score.columns(features)[0].sum() + again.sum()) / len(doubled)
        assert score.value(features, weights) == pytest.approx(expected)
        return
    assert score.value(features, weights) == pytest.approx(score.value(doubled), rel=1e-9)


@pytest.mark.parametrize(("prompts", "dimension"), [*REGULAR, *SINGULAR])
def test_g_vendi_is_scipys_entropy_of_the_kernels_eigenvalues(prompts: int, dimension: int) -> None:
    features = ragged(prompts, dimension)
    u = directions(features.sketches.astype(np.float64))
    # The n x n kernel has the same eigenvalues but for zeros.
    eigenvalues = np.maximum(np.linalg.svd(u, compute_uv=False) ** 2 / len(u), 0)
    expected = stats.entropy(eigenvalues)
    assert GVendi().value(features) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert GVendi().value(features) <= np.log(dimension) + 1e-12


@pytest.mark.parametrize(("prompts", "dimension"), [*REGULAR, *SINGULAR])
def test_the_log_determinant_is_that_of_the_explicit_matrix(prompts: int, dimension: int) -> None:
    features = ragged(prompts, dimension)
    u = directions(features.sketches.astype(np.float64))
    matrix = sum(np.outer(row, row) for row in u) / len(u) + 1e-3 / dimension * np.eye(dimension)
    expected = np.log(linalg.eigvalsh(matrix)).sum()
    assert LogDeterminant().value(features) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_means_are_by_hand() -> None:
    features = of_gradients(
        np.array([[3.0, 4.0], [0.0, 1.0], [2.0, 0.0]]),
        np.array([0, 0, 9]),
        lengths=np.array([1, 10, 100]),
        losses=np.array([0.5, 1.0, 2.0], np.float32),
        rank_sums=np.array([4, 30, 500], np.float32),
        texts=np.array([5, 5, 5]),
    )
    assert GNorm(length_factor=False).value(features) == pytest.approx((25 + 1 + 4) / 3)
    squares = np.log([2, 10, 100]) ** 2 @ [25, 1, 4]
    assert GNorm().value(features) == pytest.approx(squares / 3)
    assert MeanLoss().value(features) == pytest.approx(3.5 / 3)
    assert MeanLength().value(features) == 37
    assert RankSurprisal().value(features) == pytest.approx((4 + 3 + 5) / (0.5 + 1 + 2))
    # The second answer to prompt 0 repeats the first; prompt 9's is another prompt's affair.
    assert DuplicateRate().value(features) == pytest.approx(1 / 3)


def test_rank_surprisal_of_a_trajectory_is_the_sum_of_ranks_over_the_sum_of_surprisals() -> None:
    nll, ranks = np.array([0.2, 3.0, 0.1, 1.0]), np.minimum([1, 700, 1, 4], 100)
    features = of_gradients(
        np.ones((1, 2)),
        np.array([0]),
        lengths=np.array([4]),
        losses=np.array([nll.mean()], np.float32),
        rank_sums=np.array([ranks.sum()], np.float32),
    )
    assert RankSurprisal().value(features) == pytest.approx(ranks.sum() / nll.sum(), rel=1e-6)


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_the_leverage_ratio_is_the_quotient_and_has_no_unit(mode: Mode) -> None:
    features, grace = ragged(40, 7), Grace(mode=mode)
    ratio = LeverageRatio(grace)
    size = GNorm(mode == "paper").value(features)
    assert ratio.value(features) == pytest.approx(grace.value(features) / (7 * size), rel=1e-12)
    larger = replace(features, sketches=features.sketches * 8)
    assert ratio.value(larger) == pytest.approx(ratio.value(features), rel=1e-10)
    assert grace.value(larger) == pytest.approx(64 * grace.value(features), rel=1e-10)


def test_the_published_scale_is_that_of_a_projection_by_signs_over_sqrt_of_parameters() -> None:
    generator = np.random.default_rng(0)
    gradients = generator.normal(size=(120, 3000)) * generator.gamma(2, size=(120, 1))
    signs = generator.choice([-1.0, 1.0], size=(3000, 16))
    prompts = np.repeat(np.arange(60), 2)
    published = of_gradients(gradients @ signs / np.sqrt(3000), prompts)
    isometric = of_gradients(gradients @ signs / np.sqrt(16), prompts)
    told = probe(16, parameters=3000)
    for score in (Grace(), Grace(mode="released"), GNorm()):
        scaled = told.published_scale * score.value(isometric)
        assert scaled == pytest.approx(score.value(published), rel=1e-5)
    exact = (gradients**2).sum(axis=1).mean() * np.log(60) ** 2
    assert GNorm().value(isometric) == pytest.approx(exact, rel=0.1)


def test_the_size_of_other_prompts_gradients_changes_nothing_but_their_own_part() -> None:
    features = isotropic(40, 2, 6)
    sketches = features.sketches.copy()
    held_out = Grace().held_out(features.every_prompt)
    fold = np.isin(features.prompts, np.flatnonzero(held_out[0]))
    sketches[~fold] *= 1000
    rows, larger = Grace().rows(features), Grace().rows(replace(features, sketches=sketches))
    first = next(iter(Grace().splits(rows, held_out))).value()
    assert next(iter(Grace().splits(larger, held_out))).value() == pytest.approx(first, rel=1e-6)


def test_a_row_without_a_gradient_counts_and_weighs_nothing() -> None:
    features = ragged(40, 5)
    sketches = features.sketches.copy()
    sketches[7] = 0
    features = replace(features, sketches=sketches)
    for mode in ("paper", "released"):
        expected = by_eigenvalues(features, mode, 1e-3)
        assert Grace(mode=mode).value(features) == pytest.approx(expected, rel=1e-10)


def test_no_gradient_at_all_gets_a_sentence() -> None:
    features = of_gradients(np.zeros((20, 3)), np.arange(20))
    for score in (Grace(), GVendi(), LogDeterminant()):
        with pytest.raises(DataError, match="all 20 gradients are zero"):
            score.value(features)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(RecipeError, match="folds must be >= 2"):
        Grace(folds=1)
    with pytest.raises(RecipeError, match="smoothing must be >="):
        Grace(smoothing=0)
    with pytest.raises(RecipeError, match="smoothing must be > 0"):
        LogDeterminant(smoothing=0)
    with pytest.raises(DataError, match="9 prompts were to be cut into 10 folds"):
        Grace().value(ragged(9, 3))


def test_scores_have_a_name_and_a_better_side_each() -> None:
    names = [score.name for score in EVERY_SCORE]
    assert len(set(names)) == len(names)
    higher = {score.name for score in EVERY_SCORE if score.better == "higher"}
    assert higher == {"g_vendi", "log_determinant", "mean_length"}
