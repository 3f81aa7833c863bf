import numpy as np
import pytest

from preceptor.errors import DataError
from preceptor.selection.splits import folds, released_splits, shuffled

MASK = 2**64 - 1


def splitmix(number: int, seed: int) -> int:
    """The mixer in whole numbers, as its authors print it."""
    mixed = (number + (seed + 1) * 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def test_the_mixer_gives_the_numbers_of_its_reference() -> None:
    # The first two numbers of splitmix64 from state 0, as printed with the xoshiro generators.
    assert splitmix(0, 0) == 0xE220A8397B1DCDAF
    assert splitmix(0, 1) == 0x6E789E6AA1B965F4
    prompts = np.array([0, 5, -3, 10**12])
    expected = sorted(range(4), key=lambda i: splitmix(int(prompts[i]) & MASK, 7))
    assert shuffled(prompts, 7).tolist() == expected


@pytest.mark.parametrize(("count", "cut"), [(20, 10), (23, 4), (7, 7), (2, 2)])
def test_folds_hold_each_prompt_out_once_and_are_equal(count: int, cut: int) -> None:
    held_out = folds(np.arange(count) * 5, cut)
    assert held_out.shape == (cut, count)
    assert (held_out.sum(axis=0) == 1).all()
    assert set(held_out.sum(axis=1).tolist()) <= {count // cut, -(-count // cut)}


def test_another_seed_makes_other_folds() -> None:
    prompts = np.arange(50)
    assert not np.array_equal(folds(prompts, 5, seed=0), folds(prompts, 5, seed=1))


@pytest.mark.parametrize(("prompts", "count"), [(5, 6), (5, 1), (1, 1)])
def test_folds_that_cannot_be_get_a_sentence(prompts: int, count: int) -> None:
    with pytest.raises(DataError, match="folds"):
        folds(np.arange(prompts), count)


@pytest.mark.parametrize(("count", "held"), [(512, 51), (100, 10), (9, 1), (2, 1)])
def test_released_splits_are_those_of_the_released_code(count: int, held: int) -> None:
    splits = released_splits(count)
    assert splits.shape == (10, count)
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(count)
        train, test = order[: count - held], order[count - held :]
        assert splits[seed][test].all()
        assert not splits[seed][train].any()


def test_one_prompt_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least two"):
        released_splits(1)
