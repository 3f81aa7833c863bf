import numpy as np
import pytest

from preceptor.errors import StorageError
from preceptor.teachers.tokens.codes import IntegerCode, octave
from preceptor.teachers.tokens.lists import Coding, Lists


def lists(n: int, k: int, classes: int, largest: int, seed: int = 0) -> Lists:
    generator = np.random.default_rng(seed)
    ids = np.sort(np.stack([generator.choice(classes, k, replace=False) for _ in range(n)]), axis=1)
    for position in range(n):
        ids[position, generator.integers(0, k + 1) :] = -1
    numbers = np.where(ids >= 0, generator.integers(0, largest + 1, (n, k)), 0)
    heads = generator.integers(0, 1 << 16, n).astype(np.uint16)
    return Lists(ids, numbers, heads)


def same(found: Lists, expected: Lists) -> bool:
    width = found.ids.shape[1]
    return (
        bool((found.ids == expected.ids[:, :width]).all())
        and bool((expected.ids[:, width:] == -1).all())
        and bool((found.numbers == expected.numbers[:, :width]).all())
        and bool((found.heads == expected.heads).all())
    )


@pytest.mark.parametrize(
    ("k", "classes", "largest"),
    [(1, 2, 1), (5, 5, 3), (12, 97, 49), (50, 32_768, 95), (50, 151_936, 65_534)],
)
def test_lists_come_back_as_they_went(k: int, classes: int, largest: int) -> None:
    counts = np.array([3, 0, 1, 16])
    given = lists(20, k, classes, largest)
    coding = Coding.fitted(given, classes, largest)
    coding = Coding.told(coding.text())
    assert same(coding.unpacked(coding.packed(given, counts), counts), given)


def test_a_code_fitted_on_other_lists_can_write_these_too() -> None:
    fitted, given = lists(5, 3, 100, 2), lists(40, 50, 151_936, 95, seed=1)
    coding = Coding.fitted(fitted, 151_936, 95)
    counts = np.array([40])
    assert same(coding.unpacked(coding.packed(given, counts), counts), given)


def test_positions_without_entries_take_no_bits() -> None:
    given = Lists(np.full((3, 4), -1), np.zeros((3, 4), np.int64), np.zeros(3, np.uint16))
    packed = Coding.fitted(lists(4, 4, 50, 3), 50, 3).packed(given, np.array([2, 1]))
    assert packed.lengths.tolist() == [0, 0, 0]
    assert not len(packed.bits)


def test_ids_cost_little_more_than_there_is_to_know() -> None:
    generator = np.random.default_rng(0)
    ids = np.sort(np.stack([generator.choice(151_936, 50, replace=False) for _ in range(400)]), 1)
    given = Lists(ids, np.zeros_like(ids), np.zeros(400, np.uint16))
    coding = Coding.fitted(given, 151_936, 1)
    bits = coding.packed(given, np.array([400])).lengths.mean()
    # log2 of 151936 over 50 is 646 bits; each number that says nothing takes one bit here.
    assert 646 < bits - 50 < 646 * 1.04


@pytest.mark.parametrize("first", [0, 1, 2, 6])
def test_every_number_up_to_the_largest_has_a_code(first: int) -> None:
    numbers = np.concatenate([np.arange(3000), np.array([150_000, 151_935, 151_936])])
    code = IntegerCode.fitted(first, 151_936, numbers[:7], np.zeros(7, np.int64), 1)
    words, bits = code.write(numbers, np.zeros_like(numbers))
    assert bits.max() <= 29
    window = words << (64 - bits).astype(np.uint64)
    found, used = code.read(window, 0)
    assert (found == numbers).all()
    assert (used == bits).all()


def test_frequent_numbers_are_short() -> None:
    numbers = np.array([0] * 1000 + [1] * 10 + [2])
    code = IntegerCode.fitted(6, 100, numbers, np.zeros_like(numbers), 1)
    _, bits = code.write(np.array([0, 1, 99]), np.zeros(3, np.int64))
    assert bits[0] == 1
    assert bits[0] < bits[1] < bits[2]


@pytest.mark.parametrize("digits", ["11f", "112", "1", "0", "3333333"])
def test_lengths_that_are_no_prefix_code_are_refused(digits: str) -> None:
    with pytest.raises(StorageError, match="no prefix code"):
        IntegerCode.told(2, [digits])


def test_octaves_are_bit_lengths() -> None:
    numbers = np.array([0, 1, 2, 255, 256, 151_936])
    assert octave(numbers).tolist() == [int(number).bit_length() for number in numbers]
