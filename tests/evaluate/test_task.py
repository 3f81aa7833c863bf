import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, recall_score
from torchmetrics.functional.classification import multiclass_accuracy

from preceptor.evaluate.task import hits, macro_f1, per_class_accuracy, top_k_hits


def sample(items=300, classes=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(items, classes)), rng.integers(0, classes, items)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_is_torchmetrics(k):
    logits, labels = sample()
    expected = multiclass_accuracy(
        torch.tensor(logits), torch.tensor(labels), 8, top_k=k, average="micro"
    )
    assert top_k_hits(logits, labels, k).mean() == pytest.approx(float(expected))


def test_hits_are_the_best_of_one():
    logits, labels = sample()
    np.testing.assert_array_equal(hits(logits, labels), top_k_hits(logits, labels, 1))


def test_equal_logits_are_no_top_hit():
    assert not top_k_hits(np.zeros((1, 8)), np.array([0]), 5).any()


def test_per_class_accuracy_is_scikit_learns_recall():
    logits, labels = sample()
    predicted = logits.argmax(-1)
    expected = [recall_score(labels == k, predicted == k) for k in range(8)]
    np.testing.assert_allclose(per_class_accuracy(hits(logits, labels), labels, 8), expected)


def test_a_class_without_items_has_no_accuracy():
    got = per_class_accuracy(np.array([[True, False]]), np.array([0, 0]), 2)
    assert got[0, 0] == 0.5
    assert np.isnan(got[0, 1])


def test_macro_f1_is_scikit_learns():
    logits, labels = sample()
    predicted = np.minimum(logits.argmax(-1), 5)  # two classes are never guessed
    assert macro_f1(predicted, labels) == pytest.approx(
        f1_score(labels, predicted, average="macro")
    )
