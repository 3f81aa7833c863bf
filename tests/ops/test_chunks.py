"""Sums over chunks, and the divergence of two events."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from preceptor.ops.chunks import SATURATED, binary_kl, sum_by_chunk


@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_binary_kl_is_scipys_relative_entropy_of_two_events(temperature: float) -> None:
    log_p = torch.tensor([-0.01, -0.7, -5.0, -60.0], dtype=torch.float64)
    log_q = torch.tensor([-0.3, -0.002, -9.0, -12.0], dtype=torch.float64)
    p, q = (np.exp(x.numpy() / temperature) for x in (log_p, log_q))
    expected = [entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(p, q, strict=True)]
    torch.testing.assert_close(
        binary_kl(log_p, log_q, temperature), torch.tensor(expected), rtol=1e-9, atol=1e-12
    )


def test_equal_likelihoods_are_not_apart_and_have_no_gradient() -> None:
    log_q = torch.tensor([0.0, -1e-9, -0.2, -300.0], requires_grad=True)
    found = binary_kl(log_q.detach(), log_q, 100.0)
    torch.testing.assert_close(found, torch.zeros(4), rtol=0, atol=1e-7)
    (grad,) = torch.autograd.grad(found.sum(), log_q)
    torch.testing.assert_close(grad, torch.zeros(4), rtol=0, atol=1e-6)


def test_certainty_on_either_side_is_a_finite_number() -> None:
    log_p = torch.tensor([0.0, 0.0, -torch.inf, -3.0])
    log_q = torch.tensor([-3.0, 0.0, -3.0, 0.0], requires_grad=True)
    found = binary_kl(log_p, log_q, 1.0)
    assert found.isfinite().all()
    assert found[0].item() == pytest.approx(3.0, rel=1e-4)
    (grad,) = torch.autograd.grad(found.sum(), log_q)
    assert grad.isfinite().all()
    assert SATURATED < 1e-5


def test_at_high_temperatures_it_compares_log_likelihoods() -> None:
    # T KL -> a log(a / b) - a + b for the negative log-likelihoods a and b.
    a, b = 7.0, 4.0
    found = float(binary_kl(torch.tensor([-a]).double(), torch.tensor([-b]).double(), 1e6))
    assert 1e6 * found == pytest.approx(a * math.log(a / b) - a + b, rel=1e-4)


def test_a_chunks_sum_stands_where_it_begins() -> None:
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0], [1.0, torch.nan, 4.0, 8.0]])
    chunk = torch.tensor([[0, 0, 2, -1], [1, -1, 1, 1]])
    expected = torch.tensor([[3.0, 0.0, 4.0, 0.0, 0.0], [0.0, 13.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(sum_by_chunk(values, chunk, 5), expected)
