"""Finding a sentence's neighbour among others."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from preceptor.evaluate.retrieval import cosines, pair_cosines, retrieval_scores


def drawn(seed: int, pairs: int = 9, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(pairs, width)), generator.normal(size=(pairs, width))


def test_places_are_counted_by_hand() -> None:
    first = np.eye(3)
    second = np.array([[1.0, 0.1, 0.0], [0.9, 0.5, 0.0], [0.0, 0.0, 1.0]])
    found = retrieval_scores((first, second))
    assert found["accuracy"].tolist() == [1, 1, 1]
    swapped = retrieval_scores((first[[0, 1, 1]], second))
    assert swapped["accuracy"].tolist() == [1, 1, 0]
    assert swapped["mrr"].tolist() == pytest.approx([1, 1, 1 / 3])
    many = retrieval_scores(drawn(0, 40))
    np.testing.assert_array_equal(many["recall_at_5"], 1 / many["mrr"] <= 5)


def test_embeddings_that_are_all_the_same_find_nothing() -> None:
    same = np.ones((5, 3))
    found = retrieval_scores((same, same), drawn(0, 5))
    assert found["accuracy"].tolist() == [0] * 5
    assert found["mrr"].tolist() == pytest.approx([1 / 5] * 5)
    assert found["similarity_correlation"].tolist() == [0] * 5


def test_correlations_are_scipys_row_by_row() -> None:
    own, other = drawn(0), drawn(1)
    found = retrieval_scores(own, other)
    for i, (a, b) in enumerate(zip(cosines(*own), cosines(*other), strict=True)):
        expected: Any = spearmanr(a, b)
        assert found["similarity_correlation"][i] == pytest.approx(expected.statistic)
    best = cosines(*own).argmax(axis=1) == cosines(*other).argmax(axis=1)
    assert found["agreement"].tolist() == best.tolist()


def test_a_teacher_agrees_with_itself_however_it_is_scaled() -> None:
    own = drawn(2)
    found = retrieval_scores(own, (3 * own[0], 0.1 * own[1]))
    assert found["agreement"].all()
    np.testing.assert_allclose(found["similarity_correlation"], 1)


def test_a_pair_has_the_cosine_of_its_own_two() -> None:
    pair = drawn(3)
    np.testing.assert_allclose(pair_cosines(pair), np.diagonal(cosines(*pair)))
