import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from preceptor.objectives.nt_xent import NTXent
from preceptor.types import Batch, Outputs, Signal
from tests.objectives.feature_taps import random_tensor


def value(answers: Tensor, labels: list[int], temperature: float = 0.5) -> Tensor:
    batch = Batch(answers, labels=torch.tensor(labels))
    terms = NTXent(temperature).terms(Outputs(answers), Signal(), batch, nn.Module())
    return terms["nt_xent"].values


def test_the_value_is_equation_1_by_hand() -> None:
    answers = random_tensor(6, 4)
    units = answers.numpy() / np.linalg.norm(answers.numpy(), axis=1, keepdims=True)
    scores = units @ units.T / 0.5
    np.fill_diagonal(scores, -np.inf)
    log_p = log_softmax(scores, axis=1)
    partner = [1, 0, 3, 2, 5, 4]
    expected = -np.mean([log_p[i, partner[i]] for i in range(6)])
    assert value(answers, [0, 0, 1, 1, 2, 2]).item() == pytest.approx(expected, rel=1e-5)


def test_answers_that_cannot_be_told_apart_cost_the_logarithm_of_the_others() -> None:
    assert value(torch.ones(8, 3), [0, 0, 1, 1, 2, 2, 3, 3]).item() == pytest.approx(math.log(7))


def test_several_positives_are_averaged_and_the_lonely_do_not_count() -> None:
    answers = random_tensor(4, 3)
    units = torch.nn.functional.normalize(answers, dim=-1)
    scores = (units @ units.T / 0.5).fill_diagonal_(-torch.inf).log_softmax(dim=-1)
    each = [-(scores[i, [j for j in range(3) if j != i]]).mean() for i in range(3)]
    expected = torch.stack(each).mean()
    torch.testing.assert_close(value(answers, [0, 0, 0, 1]), expected)


def test_who_has_no_label_is_neither_partner_nor_rival() -> None:
    answers = random_tensor(5, 3)
    torch.testing.assert_close(value(answers, [0, 0, 1, 1, -1]), value(answers[:4], [0, 0, 1, 1]))


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, -1, -1], [0, -1, -1]])
def test_without_partners_there_is_nothing_to_learn(labels: list[int]) -> None:
    answers = random_tensor(3, 3).requires_grad_()
    found = value(answers, labels)
    assert found.item() == 0
    (gradient,) = torch.autograd.grad(found, answers)
    assert not gradient.any()
