"""Sketches against the matrices that they stand for, and what they keep on average."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from preceptor.ops.sketching import (
    PIECE,
    CountSketch,
    Side,
    contracted,
    count_sketch,
    signs_sketch,
    turned,
    two_sided,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_a_side_is_a_product_with_signs_over_the_root_of_their_number() -> None:
    side = Side.drawn(40, 16, 1, 2)
    matrix = side.matrix().double()
    assert torch.equal(matrix.abs().unique(), torch.tensor([0.25], dtype=torch.float64))
    x = normal(2, 3, 40)
    assert torch.allclose(side(x), x @ matrix)
    assert torch.allclose(side.raw(x) * side.scale, x @ matrix)


def test_a_short_side_is_left_whole() -> None:
    side = Side.drawn(16, 16, 1)
    x = normal(3, 16)
    assert side(x) is x
    assert (side.k, side.scale) == (16, 1.0)


@pytest.mark.parametrize("n", [5, 16, 50, 64])
def test_a_count_sketch_puts_each_coordinate_into_one_bucket_with_one_sign(n: int) -> None:
    sketch = CountSketch.drawn(n, 16, 3)
    matrix = sketch.matrix().double()
    assert (matrix != 0).sum(dim=1).tolist() == [1] * n
    filled = (matrix != 0).sum(dim=0)
    assert filled.max() - filled.min() <= 1
    x = normal(2, 3, n)
    assert torch.allclose(sketch(x), x @ matrix)
    assert torch.equal(matrix[torch.arange(n), sketch.bucket], sketch.sign.double())


def test_a_long_vector_goes_to_its_buckets_alone_as_among_others() -> None:
    n, k = 300, 16
    sketch = CountSketch.drawn(n, k, 3)
    matrix = sketch.matrix().double()
    assert torch.equal(matrix[torch.arange(n), sketch.bucket], sketch.sign.double())
    assert (matrix != 0).sum(dim=1).tolist() == [1] * n
    assert (matrix != 0).sum(dim=0).min() >= n // k - 4
    x = normal(9, n)
    assert torch.allclose(sketch(x), x @ matrix)
    assert torch.allclose(sketch(x[:1]), x[:1] @ matrix)
    # Those 4 k - 1 apart meet under every draw, but with signs that are drawn.
    signs = set[float]()
    for seed in range(20):
        drawn = CountSketch.drawn(n, k, seed)
        assert drawn.bucket[7] == drawn.bucket[7 + 63]
        signs.add(float(drawn.sign[7] * drawn.sign[7 + 63]))
    assert signs == {1.0, -1.0}


def test_numbers_that_are_large_at_even_distances_do_not_meet_more_often() -> None:
    n, k, seeds = 4096, 512, 300
    x = torch.zeros(n, dtype=torch.float64)
    x[::64] = 1.0  # A column of a matrix of 64 columns, which runs of 512 would bring together.
    square = [float(CountSketch.drawn(n, k, seed)(x).square().sum()) for seed in range(seeds)]
    errors = torch.tensor(square) / float(x.square().sum()) - 1
    assert abs(float(errors.mean())) < 0.01
    # Buckets drawn at random: 2 / k of the square of what the coordinates weigh, at most.
    assert float(errors.square().mean()) < 1.3 * 2 / k


def test_two_sides_of_a_matrix_are_two_products() -> None:
    out, given = CountSketch.drawn(30, 8, 1), Side.drawn(20, 4, 2)
    gradient = normal(3, 30, 20)
    expected = out.matrix().double().T @ gradient @ given.matrix().double()
    assert torch.allclose(two_sided(gradient, out, given), expected)


def test_rows_are_contracted_as_the_whole_matrix_would_be() -> None:
    out, given = Side.drawn(30, 8, 1), Side.drawn(20, 4, 2)
    slopes, inputs = normal(3, 7, 30), normal(3, 7, 20, seed=1)
    expected = two_sided(slopes.mT @ inputs, out, given).flatten(1)
    found = contracted(out.raw(slopes), given.raw(inputs)) * (out.scale * given.scale)
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("n", [5, 40, 300])
def test_a_map_of_what_was_brought_to_scale_is_the_map_times_the_scale(n: int) -> None:
    sketch, x = CountSketch.drawn(n, 16, 3), normal(2, n)
    assert torch.allclose(sketch.scaled(0.3)(x), 0.3 * sketch(x), rtol=1e-15)
    assert torch.allclose(sketch.scaled(0.5).scaled(0.3)(x), 0.15 * sketch(x), rtol=1e-15)
    rows = torch.arange(1.0, 6.0, dtype=torch.float64)
    found = sketch.scaled(0.3).scaled(rows)(x)
    assert torch.allclose(found, 0.3 * sketch(x * rows.repeat_interleave(n // 5)), rtol=1e-14)


def test_a_map_is_added_to_the_room_that_it_is_given() -> None:
    sketch, x = CountSketch.drawn(40, 16, 3), normal(2, 40)
    rooms = [torch.zeros(2, 32, dtype=torch.float64) for _ in range(2)]
    for room in (rooms[0], rooms[1], rooms[1], rooms[0]):
        sketch.add(x, room)
    assert torch.allclose(turned(rooms[0]), 2 * sketch(x))
    assert torch.equal(rooms[0], rooms[1])


Long = Callable[..., Tensor]


@pytest.mark.parametrize("sketch", [signs_sketch, count_sketch])
def test_a_long_vector_is_sketched_piece_by_piece_as_the_sum_of_its_pieces(sketch: Long) -> None:
    x = normal(2, PIECE + 100)
    head, tail = x.clone(), x.clone()
    head[:, 5000:], tail[:, :5000] = 0.0, 0.0
    assert torch.allclose(sketch(x, 32, 1), sketch(head, 32, 1) + sketch(tail, 32, 1))
    assert not torch.allclose(sketch(x, 32, 1), sketch(x, 32, 2))
    assert torch.allclose(sketch(x, 32, 1)[1:], sketch(x[1:], 32, 1))


@pytest.mark.parametrize(
    "sketch",
    [
        lambda x, seed: signs_sketch(x, 24, seed),
        lambda x, seed: count_sketch(x, 24, seed),
        lambda x, seed: CountSketch.drawn(80, 24, seed)(x),
        lambda x, seed: Side.drawn(80, 24, seed)(x),
        lambda x, seed: two_sided(
            x.view(-1, 10, 8), Side.drawn(10, 6, seed, 1), Side.drawn(8, 4, seed, 2)
        ).flatten(1),
    ],
    ids=["signs", "counts", "buckets", "side", "two sides"],
)
def test_inner_products_are_kept_on_average(sketch: Callable[[Tensor, int], Tensor]) -> None:
    x = normal(3, 80) + 0.5
    draws = 400
    found = torch.stack([each @ each.T for each in (sketch(x, seed) for seed in range(draws))])
    error = found.std(dim=0) / draws**0.5
    assert ((found.mean(dim=0) - x @ x.T).abs() < 4.5 * error).all()


@pytest.mark.parametrize("sketch", [signs_sketch, count_sketch])
def test_the_error_of_an_inner_product_is_one_over_the_root_of_the_dimension(sketch: Long) -> None:
    unit = torch.nn.functional.normalize(normal(40, 20_000), dim=1)
    found = sketch(unit, 256, 1)
    off = ~torch.eye(40, dtype=torch.bool)
    error = (found @ found.T - unit @ unit.T)[off].pow(2).mean().sqrt()
    assert error.item() == pytest.approx(256**-0.5, rel=0.15)
