"""Held-out tokens: sums over rows whose means are the corpus's."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import entropy, kendalltau
from sklearn.calibration import calibration_curve

from preceptor.evaluate.confidences import Confidences, pooled
from preceptor.evaluate.tokens import (
    first_choices,
    some_log_probs,
    support,
    token_scores,
    unlikeliness,
)
from preceptor.ops.linearised import ratio
from preceptor.ops.rankings import jaccard, rank_biased_overlap
from preceptor.ops.resampling import Crossed
from preceptor.types import Batch, Dense, Distribution, Head, Projected

ROWS, TOKENS, CLASSES = 3, 5, 7


def _batch() -> tuple[Batch, torch.Tensor]:
    """Rows of 5, 3 and 1 scored tokens."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (ROWS, TOKENS), generator=draw)
    lengths = torch.tensor([5, 3, 1])
    mask = torch.arange(TOKENS) < lengths[:, None]
    row = torch.where(mask, torch.arange(ROWS)[:, None], -1)
    batch = Batch(
        {"input_ids": labels}, labels=labels.masked_fill(~mask, -1), mask=mask, extra={"row": row}
    )
    return batch, mask


def _logits(seed: int) -> torch.Tensor:
    return torch.randn(ROWS, TOKENS, CLASSES, generator=torch.Generator().manual_seed(seed))


def test_means_over_rows_are_means_over_all_tokens_and_bytes() -> None:
    batch, mask = _batch()
    logits = _logits(1)
    sizes = np.array([9, 4, 2])
    found = token_scores(lambda _: Dense(logits), [batch], ROWS, sizes)
    logs = log_softmax(logits.double().numpy(), axis=-1)[mask.numpy()]
    nll = -logs[np.arange(9), batch.labels[mask].numpy()]
    assert found["token_nll"].mean() == pytest.approx(nll.mean(), rel=1e-6)
    bits = nll.sum() / math.log(2) / sizes.sum()
    assert found["bits_per_byte"].mean() == pytest.approx(bits, rel=1e-6)
    each = np.split(nll, [5, 8])
    alone = unlikeliness(lambda _: Dense(logits), [batch], ROWS)
    np.testing.assert_allclose(alone, [part.sum() for part in each], rtol=1e-6)


def test_first_choices_agree_as_often_as_the_scores_say() -> None:
    batch, mask = _batch()
    own, other = _logits(1), _logits(2)
    sizes = np.array([9, 4, 2])
    found = token_scores(lambda _: Dense(own), [batch], ROWS, sizes, beside=lambda _: Dense(other))
    first, asked = first_choices(lambda _: Dense(own), [batch])
    second, same = first_choices(lambda _: Dense(other), [batch])
    assert first.tolist() == own.argmax(dim=-1)[mask].tolist()
    assert (first == second).mean() == pytest.approx(found["token_agreement"].mean())
    assert asked == same
    others = torch.where(mask, (batch.labels + 1) % CLASSES, -1)
    shifted = Batch(batch.inputs, labels=others, mask=mask, extra=batch.extra)
    assert first_choices(lambda _: Dense(own), [shifted])[1] != asked


def test_divergences_from_the_teacher_are_scipys() -> None:
    batch, mask = _batch()
    own, other = _logits(1), _logits(2)
    sizes = np.array([9, 4, 2])
    found = token_scores(lambda _: Dense(own), [batch], ROWS, sizes, beside=lambda _: Dense(other))
    q, p = (softmax(each.double().numpy(), axis=-1)[mask.numpy()] for each in (own, other))
    forward, reverse = rel_entr(p, q).sum(-1).mean(), rel_entr(q, p).sum(-1).mean()
    assert found["kl_teacher_model"].mean() == pytest.approx(forward, rel=1e-5)
    assert found["kl_model_teacher"].mean() == pytest.approx(reverse, rel=1e-5)
    middle = (p + q) / 2
    js = (rel_entr(p, middle).sum(-1) + rel_entr(q, middle).sum(-1)).mean() / 2
    assert found["js"].mean() == pytest.approx(js, rel=1e-5)
    overlap = 1 - np.abs(p - q).sum(-1).mean() / 2
    assert found["acceptance"].mean() == pytest.approx(overlap, rel=1e-5)
    drift = (entropy(q, axis=-1) - entropy(p, axis=-1)).mean()
    assert found["entropy_drift"].mean() == pytest.approx(drift, abs=1e-5)
    same = (q.argmax(-1) == p.argmax(-1)).mean()
    assert found["token_agreement"].mean() == pytest.approx(same)
    firsts = np.argsort(-p, axis=-1)[:, :5]
    taus = [kendalltau(p[i, five], q[i, five])[0] for i, five in enumerate(firsts)]
    assert found["kendall_top5"].mean() == pytest.approx(np.array(taus, float).mean())
    assert found["jaccard_top5"].mean() == pytest.approx(jaccard(p, q, 5).mean())
    assert found["rbo"].mean() == pytest.approx(rank_biased_overlap(p, q, 10).mean())


def test_slices_and_a_projection_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, _ = _batch()
    hidden, weight = torch.randn(ROWS, TOKENS, 4), torch.randn(CLASSES, 4)
    head = Head(weight, scale=2.0, cap=3.0)
    shown: list[Distribution] = [Projected(hidden, head), Dense(head.logits(hidden))]
    whole = [token_scores(lambda _, d=d: d, [batch], ROWS, np.ones(3, int)) for d in shown]
    monkeypatch.setattr("preceptor.evaluate.tokens.SLICE", 2 * CLASSES)
    sliced = token_scores(lambda _: shown[0], [batch], ROWS, np.ones(3, int))
    for found in (whole[1], sliced):
        np.testing.assert_allclose(found["token_nll"], whole[0]["token_nll"], rtol=1e-5)


def test_a_teacher_of_another_vocabulary_is_not_compared() -> None:
    batch, _ = _batch()
    other = torch.zeros(ROWS, TOKENS, CLASSES + 1)
    found = token_scores(
        lambda _: Dense(_logits(1)), [batch], ROWS, np.ones(3, int), beside=lambda _: Dense(other)
    )
    alone = {"token_nll", "bits_per_byte", "token_accuracy", "token_overconfidence", "token_brier"}
    assert set(found) == alone


def test_a_token_is_right_where_the_likeliest_stands_there_and_confidence_may_lie_above() -> None:
    batch, mask = _batch()
    logits = _logits(1)
    found = token_scores(lambda _: Dense(logits), [batch], ROWS, np.array([9, 4, 2]))
    p = softmax(logits.double().numpy(), axis=-1)[mask.numpy()]
    right = p.argmax(axis=-1) == batch.labels[mask].numpy()
    assert found["token_accuracy"].mean() == pytest.approx(right.mean())
    over = p.max(axis=-1).mean() - right.mean()
    assert found["token_overconfidence"].mean() == pytest.approx(over, rel=1e-5)
    wanted = np.eye(CLASSES)[batch.labels[mask].numpy()]
    assert found["token_brier"].mean() == pytest.approx(((p - wanted) ** 2).sum(-1).mean())


def _sure(rows: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of 1 to `most` tokens, of a model that is right less often than it thinks."""
    draw = np.random.default_rng(0)
    row = np.repeat(np.arange(rows), draw.integers(1, most + 1, rows))
    sure = draw.beta(4, 2, len(row))
    return row, sure, draw.random(len(row)) < sure**1.5


def test_how_sure_a_model_is_of_tokens_is_calibrated_as_scikit_learn_does() -> None:
    row, sure, hit = _sure(60, 40)
    told = Confidences(60)
    for part in np.array_split(np.random.default_rng(1).permutation(len(row)), 3):
        told.add(row[part], sure[part], hit[part])
    accuracy, confidence = calibration_curve(hit, sure, n_bins=10, strategy="quantile")
    curve = pooled("distilled", [told.bins(), told.bins()])
    np.testing.assert_allclose(curve.confidence, confidence, rtol=1e-6)
    np.testing.assert_allclose(curve.accuracy, accuracy, rtol=1e-6)
    assert sum(curve.count) == 2 * len(row)
    accuracy, confidence = calibration_curve(hit, sure, n_bins=15, strategy="quantile")
    # Quantiles of so many numbers without ties hold as many each, but for one.
    expected = np.abs(accuracy - confidence).mean()
    assert told.error_by_row().mean() == pytest.approx(expected, rel=0.01)


def test_rows_of_all_lengths_are_drawn_as_whole_rows() -> None:
    """Against a plain bootstrap that draws rows and counts their tokens anew."""
    row, _, hit = _sure(60, 40)
    draw = np.random.default_rng(2)
    sums = np.stack([np.bincount(row, x, 60) for x in (hit, np.ones(len(row)))])
    drawn = sums[:, draw.integers(0, 60, (4000, 60))].sum(axis=-1)
    plain = (drawn[0] / drawn[1]).std()
    column = ratio(*sums)
    found = Crossed(1, 60, draw, draws=4000).means(column[None, None])[:, 0].std()
    assert found == pytest.approx(plain, rel=0.06)
    assert sums[0].std() / sums[1].mean() / np.sqrt(60) > 2 * plain  # What sums alone would say.


def test_padding_and_packing_change_no_number() -> None:
    batch, mask = _batch()
    own, other = _logits(1), _logits(2)
    flat = mask.flatten().nonzero().squeeze(1)
    packed = Batch(
        {"input_ids": batch.labels},
        labels=batch.labels.flatten()[flat][None],
        mask=torch.ones(1, len(flat), dtype=torch.bool),
        extra={"row": batch.extra["row"].flatten()[flat][None]},
    )
    found = []
    for one, places in ((batch, torch.arange(mask.numel())), (packed, flat)):
        shape = one.labels.shape
        sides = [Dense(x.flatten(0, 1)[places].reshape(*shape, CLASSES)) for x in (own, other)]
        told = Confidences(ROWS)
        numbers = token_scores(
            lambda _, d=sides[0]: d,
            [one],
            ROWS,
            np.ones(ROWS, int),
            lambda _, d=sides[1]: d,
            told,
        )
        found.append({**numbers, "token_ece": told.error_by_row(), "bins": told.bins()})
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-6, atol=1e-9)


def test_a_teachers_mass_on_the_students_likeliest_tokens_by_hand() -> None:
    batch, mask = _batch()
    own, other = _logits(1), _logits(2)
    found = support(lambda _: Dense(own), lambda _: Dense(other), [batch], ROWS, 2)
    q, p = (softmax(each.double().numpy(), axis=-1)[mask.numpy()] for each in (own, other))
    first, theirs = (np.argsort(-each, axis=-1)[:, :2] for each in (q, p))
    mass = np.take_along_axis(p, first, axis=-1).sum(axis=-1)
    shared = [len(set(a) & set(b)) / 2 for a, b in zip(first, theirs, strict=True)]
    assert found["mass"].mean() == pytest.approx(mass.mean(), rel=1e-5)
    assert found["overlap"].mean() == pytest.approx(np.mean(shared))
    logp, labels = some_log_probs(lambda _: Dense(own), [batch, batch], most=7)
    np.testing.assert_allclose(logp, np.log(q)[:7], rtol=1e-4)
    assert labels.tolist() == batch.labels[mask].tolist()[:7]
