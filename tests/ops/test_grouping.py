import pytest
import torch

from preceptor.errors import RecipeError
from preceptor.ops.grouping import check_nested, group_index, label_or_not


def test_a_class_has_its_groups_number() -> None:
    assert group_index(((0, 3), (1,), (2, 4)), 5).tolist() == [0, 1, 2, 0, 2]


def test_a_label_is_one_group_and_the_rest_the_other() -> None:
    groups = label_or_not(torch.tensor([[0, 2], [1, -1]]), 3)
    assert groups.tolist() == [[[0, 1, 1], [1, 1, 0]], [[1, 0, 1], [0, 1, 1]]]


def test_levels_that_divide_the_last_are_nested() -> None:
    check_nested([((0, 1, 2), (3,)), ((0, 2), (1,), (3,))])
    with pytest.raises(RecipeError, match="level 2"):
        check_nested([((0, 1), (2, 3)), ((0, 2), (1, 3))])
