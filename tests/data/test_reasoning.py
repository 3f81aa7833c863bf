import itertools

import numpy as np
import pytest
import torch

from preceptor.data.loading import load_images
from preceptor.data.reasoning import REASONING, ROWS, Reasoning

NAMES = sorted(REASONING)


def by_hand(name: str, t: list[int]) -> int:
    """The rules again, one row at a time, in plain Python."""
    gate = (lambda a, b: a and b, lambda a, b: a or b, lambda a, b: int(a != b))
    fold = (max, min, lambda each: sorted(each)[1])
    match name:
        case "parity":
            return (t[0] + t[1] + t[2] + t[3]) % 2
        case "modular_sum":
            return sum(t) % 5
        case "comparison":
            return int(t[:3] > t[3:])
        case "sorting":
            return sorted(range(4), key=lambda k: (t[k], k))[1]
        case "majority":
            return max(range(3), key=lambda k: (t.count(k), -k))
        case "circuit":
            a, b, c = (gate[t[6 + k]](t[2 * k], t[2 * k + 1]) for k in range(3))
            return gate[t[10]](gate[t[9]](a, b), c)
        case "nested_lists":
            return fold[t[0]]([t[1], t[2], fold[t[3]](t[4:])])
        case "counting":
            return min(t.count(0), 4)
        case "repeats":
            return int(len(set(t)) < len(t))
        case "automaton":
            state = 0
            for token in t:
                state = [(state + 1) % 3, 2 - state, state][token]
            return state
        case "chained_arithmetic":
            return (t[0] + t[1] * t[2] - t[3]) % 5
        case "longest_run":
            return min(max(max(len(list(run)) for _, run in itertools.groupby(t)), 2), 5) - 2
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_is_what_it_says(name: str) -> None:
    tokens, answers = REASONING[name].rows(300)
    assert answers.tolist() == [by_hand(name, row) for row in tokens.tolist()]


@pytest.mark.parametrize("name", NAMES)
def test_no_row_comes_twice_and_no_class_fills_the_half_of_more_than_two(name: str) -> None:
    task = REASONING[name]
    tokens, answers = task.rows(ROWS)
    assert len(np.unique(tokens, axis=0)) == ROWS
    counts = np.bincount(answers, minlength=len(task.classes))
    assert counts.min() > 0
    assert counts.max() / ROWS < (0.55 if len(counts) == 2 else 0.5)


def test_rows_are_a_function_of_the_seed() -> None:
    task = REASONING["sorting"]
    first = task.rows(20)[0].tolist()
    assert task.rows(20)[0].tolist() == first
    assert task.rows(20, seed=1)[0].tolist() != first


def test_a_recipe_reads_a_task_as_square_images_of_one_hot_tokens() -> None:
    data = load_images("repeats", validation_share=0.2, test_share=0.3)
    assert data.shape == (1, 6, 6)
    assert data.class_names == ("no", "yes")
    pixels = data.train.pixels
    assert isinstance(pixels, torch.Tensor)
    assert set(pixels.unique().tolist()) == {0, 255}
    assert (pixels.flatten(1).bool().sum(dim=1) == 4).all()
    assert "come twice" in data.origin


def test_rows_are_of_the_task_alone() -> None:
    coin = Reasoning("heads?", (2, 2), lambda tokens: tokens[:, 0], ("no", "yes"))
    tokens, _ = coin.rows(4)
    assert sorted(tokens.tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]
