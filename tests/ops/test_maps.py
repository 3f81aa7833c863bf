import numpy as np
import pytest
import torch
from torch.nn import functional as F

from preceptor.ops.maps import (
    attention,
    channel_statistics,
    common_size,
    flow,
    pooled,
    pyramid_distance,
    squared_difference,
)


def random_map(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("exponent", [1, 2, 3, 4])
def test_attention_equals_the_formula_in_numpy(exponent: int) -> None:
    features = random_map(2, 3, 4, 5)
    expected = np.zeros((2, 20))
    for b, one in enumerate(features.double().numpy()):
        powers = (np.abs(one) ** exponent).mean(axis=0).reshape(-1)
        expected[b] = powers / np.sqrt((powers**2).sum())
    np.testing.assert_allclose(attention(features, exponent).numpy(), expected, rtol=1e-5)


def test_an_odd_power_does_not_let_signs_cancel() -> None:
    features = random_map(2, 3, 4, 4)
    assert torch.equal(attention(features, 3), attention(-features, 3))
    assert torch.isfinite(attention(features, 1.5)).all()


def test_attention_does_not_see_the_scale_of_a_map() -> None:
    features = random_map(2, 3, 4, 4)
    torch.testing.assert_close(attention(7 * features, 2), attention(features, 2))


def test_a_map_of_zeros_has_no_attention_and_a_finite_gradient() -> None:
    features = torch.zeros(1, 2, 2, 2, requires_grad=True)
    attention(features, 2).sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_flow_equals_a_sum_over_positions() -> None:
    entry, leave = random_map(2, 3, 2, 4), random_map(2, 5, 2, 4, seed=1)
    expected = torch.zeros(2, 3, 5)
    for y in range(2):
        for x in range(4):
            expected += entry[:, :, y, x][:, :, None] * leave[:, :, y, x][:, None, :] / 8
    torch.testing.assert_close(flow(entry, leave), expected)


def test_statistics_equal_numpys_over_space() -> None:
    features = random_map(2, 3, 4, 5)
    mean, deviation = channel_statistics(features)
    np.testing.assert_allclose(mean.numpy(), features.numpy().mean((2, 3)), atol=1e-6)
    np.testing.assert_allclose(deviation.numpy(), features.numpy().std((2, 3)), rtol=1e-5)


def test_the_deviation_of_a_constant_channel_has_a_finite_gradient() -> None:
    features = torch.full((1, 1, 2, 2), 3.0, requires_grad=True)
    channel_statistics(features)[1].sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_the_pyramid_weighs_its_levels_one_half_quarter_eighth() -> None:
    student, teacher = random_map(2, 3, 8, 8), random_map(2, 3, 8, 8, seed=1)
    expected = torch.zeros(2)
    for side, weight in ((8, 1.0), (4, 0.5), (2, 0.25), (1, 0.125)):
        cell = 8 // side
        for b in range(2):
            cells = [
                (s - t) ** 2
                for y in range(side)
                for x in range(side)
                for s, t in zip(
                    student[b, :, y * cell : (y + 1) * cell, x * cell : (x + 1) * cell].mean(
                        (1, 2)
                    ),
                    teacher[b, :, y * cell : (y + 1) * cell, x * cell : (x + 1) * cell].mean(
                        (1, 2)
                    ),
                    strict=True,
                )
            ]
            expected[b] += weight * torch.stack(cells).mean() / 1.875
    torch.testing.assert_close(pyramid_distance(student, teacher), expected)


def test_a_small_map_has_fewer_levels() -> None:
    ones, zeros = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    ones[0, 0, 0, 0] = 5.0
    # (25 + 3) / 4 = 7 at full size, the mean 2 squared at 1x1 with half the weight.
    assert pyramid_distance(ones, zeros).item() == pytest.approx((7 + 0.5 * 4) / 1.5)
    single = torch.full((1, 1, 1, 1), 3.0)
    assert pyramid_distance(single, torch.zeros(1, 1, 1, 1)).item() == pytest.approx(9.0)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 4)])
def test_pooling_equals_adaptive_pooling(size: tuple[int, int]) -> None:
    features = random_map(2, 3, 6, 4)
    torch.testing.assert_close(pooled(features, size), F.adaptive_avg_pool2d(features, size))
    largest = pooled(features, size, "max")
    assert torch.equal(largest, F.adaptive_max_pool2d(features, size))


def test_a_map_of_that_size_already_is_not_copied() -> None:
    features = random_map(1, 1, 3, 3)
    assert pooled(features, (3, 3)) is features


def test_the_common_size_is_the_smallest_on_each_axis() -> None:
    assert common_size([torch.zeros(1, 1, 8, 2), torch.zeros(1, 1, 4, 6)]) == (4, 2)


def test_half_precision_is_computed_in_float32() -> None:
    half = random_map(1, 2, 4, 4).half()
    for answer in (attention(half, 2), flow(half, half), channel_statistics(half)[1]):
        assert answer.dtype == torch.float32
    assert squared_difference(half, half.float()).dtype == torch.float32
    assert squared_difference(half, torch.full_like(half, 300.0)).isfinite().all()
