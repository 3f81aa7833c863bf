import math

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from preceptor.teachers.weighting import agreement, confidence


def logits() -> torch.Tensor:
    return torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


def test_confidence_is_the_softmax_of_negative_entropies() -> None:
    p = softmax(logits().numpy(), axis=-1)
    expected = softmax(-entropy(p, axis=-1), axis=0)
    assert np.allclose(confidence(logits().log_softmax(-1)).numpy(), expected)


def test_a_class_that_is_ruled_out_adds_nothing_to_the_entropy() -> None:
    probs = torch.tensor([[[1.0, 0.0, 0.0]], [[0.25, 0.75, 0.0]]])
    weights = confidence(probs.log()).flatten()
    h = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert torch.allclose(weights[0], torch.tensor(1 / (1 + math.exp(-h))))


def test_agreement_is_ca_mkd_worked_by_hand() -> None:
    # The members give the label 1/2, 1/4 and 1/8: exp(CE) is 2, 4 and 8, of a sum of 14.
    probs = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]], [[0.125, 0.875]]])
    weights = agreement(probs.log(), torch.tensor([0]), torch.tensor([True])).flatten()
    assert torch.allclose(weights, torch.tensor([12 / 28, 10 / 28, 6 / 28]))


def test_agreement_is_the_authors_formula_on_random_logits() -> None:
    z, labels = logits(), torch.tensor([0, 1, 2, 3, 0, 1])
    losses = -log_softmax(z.numpy(), axis=-1)[:, np.arange(6), labels.numpy()]
    expected = (1 - np.exp(losses) / np.exp(losses).sum(axis=0)) / 2
    weights = agreement(z.log_softmax(-1), labels, torch.ones(6, dtype=torch.bool))
    assert np.allclose(weights.numpy(), expected)
    assert torch.allclose(weights.sum(dim=0), torch.ones(6, dtype=torch.float64))


def test_without_a_label_all_members_count_the_same() -> None:
    labels = torch.tensor([0, -1, 2, 3, 0, 1])
    labelled = torch.tensor([True, False, True, True, True, False])
    weights = agreement(logits().log_softmax(-1), labels, labelled)
    assert torch.allclose(weights[:, ~labelled], torch.full((3, 2), 1 / 3, dtype=torch.float64))
    assert torch.allclose(weights.sum(dim=0), torch.ones(6, dtype=torch.float64))


def test_one_member_alone_counts_as_one() -> None:
    one = logits()[:1].log_softmax(-1)
    labels = torch.zeros(6, dtype=torch.int64)
    assert torch.equal(agreement(one, labels, labels == 0), torch.ones(1, 6, dtype=torch.float64))


def test_a_position_of_a_text_is_weighed_like_an_example() -> None:
    z = logits().log_softmax(-1)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    flat = agreement(z, labels, labels >= 0)
    grid = agreement(z.view(3, 2, 3, 4), labels.view(2, 3), labels.view(2, 3) >= 0)
    assert torch.equal(grid.flatten(1), flat)
