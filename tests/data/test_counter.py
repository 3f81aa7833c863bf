import numpy as np
import pytest
from scipy.stats import chisquare

from preceptor.data.counter import below, shuffled, splitmix64, words


def test_the_generator_gives_the_published_numbers():
    # The first outputs for the seed 1234567, as in the reference C program.
    golden, state, outputs = 0x9E3779B97F4A7C15, 1234567, []
    for _ in range(5):
        outputs.append(int(splitmix64(np.array([state], dtype=np.uint64))[0]))
        state = (state + golden) % 2**64
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_word_depends_on_every_key_and_on_their_order():
    drawn = {
        int(words(*keys)[0]) for keys in [(1, 2), (2, 1), (1, 3), (0, 2), (1,), (1, 2, 0), (-1, 2)]
    }
    assert len(drawn) == 7


def test_keys_broadcast_and_give_what_they_give_alone():
    ids = np.array([5, 0, 7])
    assert words(3, ids).tolist() == [int(words(3, int(i))[0]) for i in ids]


@pytest.mark.parametrize("bound", [1, 2, 9, 10])
def test_draws_are_uniform_below_their_bound(bound):
    drawn = below(bound, words(11, np.arange(20_000)))
    counts = np.bincount(drawn, minlength=bound)
    assert len(counts) == bound
    assert chisquare(counts).pvalue > 1e-3 or bound == 1


def test_an_order_holds_every_name_once_and_ignores_how_they_came():
    names = np.array([9, 2, 4, 30, 7])
    order = shuffled(names, 1, 2)
    assert sorted(order.tolist()) == [2, 4, 7, 9, 30]
    assert shuffled(names[::-1].copy(), 1, 2).tolist() == order.tolist()


def test_orders_differ_between_keys_and_favour_no_place():
    orders = np.stack([shuffled(np.arange(6), seed) for seed in range(3000)])
    for place in range(6):
        assert chisquare(np.bincount(orders[:, place], minlength=6)).pvalue > 1e-3


def test_orders_are_those_of_plain_integers():
    # The definition in Python's own integers; a checkpoint relies on it from version to version.
    def mixed(state):
        z = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    def word(*keys):
        state = 0
        for key in keys:
            state = mixed(state ^ key % 2**64)
        return state

    expected = sorted(range(8), key=lambda name: word(-7, 2, 3, name))
    assert shuffled(np.arange(8), -7, 2, 3).tolist() == expected
    assert shuffled(np.arange(8), 0, 1, 0).tolist() == [1, 6, 5, 4, 3, 7, 2, 0]
