"""Whose rows are whose, read off the graph: each row carries the number of its example."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.selection.owners import Owners, owners

EXAMPLES, EACH = 3, 4
CHOSEN = torch.tensor([11, 0, 5, 5, 8, 2])
ORDER = torch.tensor([7, 1, 0, 10, 11, 3, 2, 9, 8, 5, 4, 6])


def marked() -> Tensor:
    """Rows [b * t, 6], each number of which is one of its example's, plus one."""
    number = torch.arange(1.0, 1 + EXAMPLES).repeat_interleave(EACH)
    return number.unsqueeze(1).repeat(1, 6).requires_grad_() * 1.0


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "an index": lambda x: x[CHOSEN],
    "an index of an index": lambda x: x[ORDER][CHOSEN],
    "a mask": lambda x: x[torch.arange(12) % 5 < 2],
    "a mask of examples and positions": lambda x: x.view(3, 4, 6)[torch.ones(3, 4).tril() > 0],
    "an example and a position": lambda x: x.view(3, 4, 6)[torch.tensor([2, 0]), CHOSEN[1:3] % 4],
    "index_select": lambda x: x.index_select(0, CHOSEN),
    "columns of rows": lambda x: x[CHOSEN][:, torch.tensor([3, 1])].index_select(1, CHOSEN[1:2]),
    "rows repeated": lambda x: x.repeat_interleave(2, 0)[ORDER + 12],
    "a slice": lambda x: x[ORDER][2:9:3],
    "the first rows": lambda x: x[:9],
    "some of the first rows": lambda x: x[:11][CHOSEN % 11],
    "groups of given sizes": lambda x: x[ORDER].split([3, 7, 2])[1],
    "groups of one size": lambda x: x[ORDER].split(5)[2],
    "half of the columns": lambda x: x[CHOSEN].chunk(2, dim=-1)[1],
    "columns beside columns": lambda x: torch.cat([x[CHOSEN], x[CHOSEN]], dim=1),
    "every other column": lambda x: x[CHOSEN][..., 1::2],
    "elementwise": lambda x: F.relu(2.0 * x[CHOSEN] - x[CHOSEN]).to(torch.float64),
    "heads": lambda x: x[CHOSEN].view(6, 2, 3).reshape(12, 3),
    "an axis more": lambda x: x[CHOSEN].unsqueeze(1),
}


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_followed_back_to_their_examples(way: str) -> None:
    rows = WAYS[way](marked())
    found = owners(rows, EXAMPLES)
    assert found is not None
    assert torch.equal(found.whose, rows.flatten(1)[:, 0].long() - 1)


@pytest.mark.parametrize(
    "way",
    [
        lambda x: x * 2,
        lambda x: x[CHOSEN].T,
        lambda x: x[CHOSEN].sum(dim=1),
        lambda x: torch.cat([x[CHOSEN], x]),
        lambda x: x[CHOSEN.view(2, 3)],
        lambda x: x.detach()[CHOSEN],
    ],
    ids=[
        "nothing was picked",
        "columns for rows",
        "numbers for rows",
        "others behind them",
        "an index of two axes",
        "without a gradient",
    ],
)
def test_nothing_is_said_of_rows_that_cannot_be_followed(way: Callable[[Tensor], Tensor]) -> None:
    assert owners(way(marked()), EXAMPLES) is None


def test_one_example_has_all_rows() -> None:
    assert owners(marked()[CHOSEN], 1) is None


def test_rows_stand_with_their_example_and_zeros_behind_them() -> None:
    rows = torch.arange(10.0).view(5, 2)
    found = Owners(torch.tensor([2, 0, 2, 2, 0]), 4)
    apart = found.apart(rows)
    assert torch.equal(apart[0], torch.stack([rows[1], rows[4], 0 * rows[0]]))
    assert torch.equal(apart[2], rows[[0, 2, 3]])
    assert not apart[[1, 3]].any()
    assert torch.equal(found.sums(rows, torch.float64), apart.double().sum(dim=1))
    assert found.part(slice(1, 3)).whose.tolist() == [0, 2]
