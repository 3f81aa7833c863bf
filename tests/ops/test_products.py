"""Products of matrices."""

import pytest
import torch
from torch.nn import functional as F

from preceptor.ops.products import product

SIZES = [((2, 3), 4, 5), ((700,), 64, 48), ((4, 128), 96, 384), ((0,), 512, 4096)]


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("is_turned", [False, True])
def test_a_product_is_the_one_in_float64(
    rows: tuple[int, ...], inputs: int, outputs: int, has_bias: bool, is_turned: bool
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(*rows, inputs, generator=draw)
    weight = torch.randn(outputs, inputs, generator=draw)
    weight = weight.T.contiguous().T if is_turned else weight
    bias = torch.randn(outputs, generator=draw) if has_bias else None
    with torch.no_grad():
        found = product(x, weight, bias)
    truth = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), truth, rtol=1e-5, atol=1e-4)


def test_rows_that_lie_apart_in_memory_are_multiplied_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(96, 900, generator=draw).T, torch.randn(64, 96, generator=draw)
    with torch.no_grad():
        torch.testing.assert_close(product(x, weight), product(x.contiguous(), weight))


def test_gradients_are_followed_where_they_are_asked_for() -> None:
    x = torch.randn(512, 64, requires_grad=True)
    weight = torch.randn(64, 64)
    (slope,) = torch.autograd.grad(product(x, weight).sum(), x)
    torch.testing.assert_close(slope, weight.sum(0).expand(512, 64))


def test_autocast_and_double_precision_are_kept() -> None:
    x, weight = torch.randn(512, 64), torch.randn(64, 64)
    with torch.no_grad():
        assert product(x.double(), weight.double()).dtype == torch.float64
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert product(x, weight).dtype == torch.bfloat16
