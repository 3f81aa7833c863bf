"""Random numbers in torch: fixed for ever, the same as numpy's, whatever computes them."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from preceptor.data import counter as in_numpy
from preceptor.ops.counter import signs, words


@pytest.fixture
def two_threads() -> Iterator[None]:
    held = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(held)


def test_words_are_those_of_splitmix64() -> None:
    # The first outputs of the reference implementation from the state 1234567.
    assert words(1234567).item() == 6457827717110365317
    state = (1234567 + 0x9E3779B97F4A7C15) % 2**64
    assert words(state).item() == 3203168211198807973


def test_words_and_signs_never_change() -> None:
    assert words(1, 2, torch.arange(2)).tolist() == [-1833405127366507680, -5182195735961227806]
    assert words(-3, 2**64 - 1, 5).item() == words(2**64 - 3, -1, 5).item()
    first = signs(2, 8, 5)[:, :].int().tolist()
    assert first == [[-1, 1, -1, 1, -1, -1, -1, 1], [1, 1, 1, 1, -1, 1, -1, 1]]


def test_words_are_those_of_the_numpy_generator() -> None:
    names = np.arange(-50, 50)
    expected = in_numpy.words(7, names, 2**63).astype(np.int64)
    assert words(7, torch.from_numpy(names), 2**63).tolist() == expected.tolist()


@pytest.mark.usefixtures("two_threads")
def test_another_number_of_threads_draws_the_same() -> None:
    drawn = words(3, torch.arange(100_000))
    expected = in_numpy.words(3, np.arange(100_000)).astype(np.int64)
    assert np.array_equal(drawn.numpy(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_draws_the_same() -> None:
    assert torch.equal(signs(300, 130, 1, device="cuda").cpu(), signs(300, 130, 1))


def test_a_part_of_a_matrix_of_signs_is_drawn_without_the_rest() -> None:
    whole = signs(40, 130, 9)
    assert torch.equal(signs(7, 130, 9, start=11), whole[11:18])
    assert torch.equal(signs(40, 70, 9)[:, :64], whole[:, :64])


def test_signs_are_as_often_plus_as_minus_and_have_nothing_to_do_with_one_another() -> None:
    rows, columns = 4000, 150
    drawn = signs(rows, columns, 2).double()
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert abs(drawn.mean().item()) < 5 / (rows * columns) ** 0.5
    off = (drawn.T @ drawn / rows)[~torch.eye(columns, dtype=torch.bool)]
    assert off.abs().max() < 6 / rows**0.5
    assert off.pow(2).mean().sqrt().item() == pytest.approx(rows**-0.5, rel=0.03)
    other = signs(rows, columns, 3).double()
    assert abs((drawn * other).mean().item()) < 5 / (rows * columns) ** 0.5
