"""Partitions of the classes: said as tuples of class indices, computed with as index tensors.

Dimension key: *n positions, v classes.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from preceptor.errors import RecipeError

Groups = tuple[tuple[int, ...], ...]
"""A partition: each class index stands in exactly one of the tuples."""


@lru_cache(maxsize=64)
def group_index(groups: Groups, num_classes: int) -> Int[Tensor, " v"]:
    """Each class's group.

    Raises:
        RecipeError: a class stands in no group or in two, a group is empty, or an index is not
            one of the classes.

    >>> group_index(((0, 2), (1,)), 3)
    tensor([0, 1, 0])
    """
    check_groups(groups)
    given = {member for group in groups for member in group}
    strange = sorted(given - set(range(num_classes)))
    missing = sorted(set(range(num_classes)) - given)
    if strange or missing:
        seen = f"class {strange[0]} is in a group" if strange else f"class {missing[0]} is in none"
        raise RecipeError(
            seen,
            f"the model has the classes 0 to {num_classes - 1}, and the groups divide them all",
            "Name every class in exactly one group.",
        )
    index = torch.empty(num_classes, dtype=torch.int64)
    for number, members in enumerate(groups):
        index[list(members)] = number
    return index


def check_groups(groups: Groups) -> None:
    """Raise `RecipeError` where a group is empty or a class stands twice."""
    members = [member for group in groups for member in group]
    if not groups or not all(groups):
        raise RecipeError(
            f"groups of classes with {'an empty one' if groups else 'nothing in them'}",
            "each group holds at least one class",
            "Leave empty groups out.",
        )
    twice = sorted({member for member in members if members.count(member) > 1})
    if twice:
        raise RecipeError(
            f"class {twice[0]} stands twice in the groups",
            "the groups divide the classes",
            "Name every class in exactly one group.",
        )


def check_nested(levels: Sequence[Groups]) -> None:
    """Raise `RecipeError` where a group of a finer level is not inside one of the level above."""
    for level in levels:
        check_groups(level)
    for number, (coarse, fine) in enumerate(pairwise(levels), start=2):
        above = [set(group) for group in coarse]
        for group in fine:
            if not any(set(group) <= parent for parent in above):
                raise RecipeError(
                    f"the group {group} of level {number} of the hierarchy",
                    "it lies in no single group of the level above",
                    "List the levels from the coarsest to the finest, each dividing the last.",
                )


def label_or_not(labels: Int[Tensor, "*n"], num_classes: int) -> Int[Tensor, "*n v"]:
    """Two groups a position: 0 for the label, 1 for all other classes.

    Labels below 0 count as class 0: such positions are not to be read.

    >>> label_or_not(torch.tensor([1]), 3)
    tensor([[1, 0, 1]])
    """
    others = torch.ones(*labels.shape, num_classes, dtype=torch.int64, device=labels.device)
    return others.scatter_(-1, labels.clamp_min(0).unsqueeze(-1), 0)
