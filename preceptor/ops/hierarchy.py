"""A tree over the classes, read from how alike a teacher finds them.

Dimension key: *n positions, v classes, d width.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from preceptor.errors import RecipeError
from preceptor.ops.grouping import Groups


def class_tree(likeness: Float[Tensor, "v v"], sizes: Sequence[int]) -> tuple[Groups, ...]:
    """Levels of groups, nested, with `sizes` groups each, from the coarsest to the finest.

    Agglomerative clustering with average linkage, classes that are more alike joined first.
    `likeness` is symmetric, its diagonal is not read; `sizes` grow and lie between 1 and v.

    >>> likeness = torch.tensor([[0.0, 5.0, 1.0], [5.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    >>> class_tree(likeness, [2])
    (((0, 1), (2,)),)
    """
    num_classes = len(likeness)
    growing = all(a < b for a, b in pairwise(sizes))
    if not growing or not all(1 <= size <= num_classes for size in sizes):
        raise RecipeError(
            f"a class tree of {', '.join(map(str, sizes))} groups",
            f"the levels go from few groups to more, at most one for each of {num_classes} classes",
            "Give growing numbers, such as 2, 5.",
        )
    alike = likeness.detach().double().cpu().numpy()
    distance = alike.max() - alike
    np.fill_diagonal(distance, 0.0)
    merges = linkage(squareform(distance), "average")[:, :2].astype(int).tolist()
    return tuple(_groups(num_classes, merges[: num_classes - size]) for size in sizes)


def likeness_from_soft_labels(
    log_probs: Float[Tensor, "*n v"], labels: Int[Tensor, "*n"]
) -> Float[Tensor, "v v"]:
    """How much of two classes' probability a teacher gives to the other, on average of both.

    Positions without a label (below 0) are not read; a class without examples is like no other.
    """
    num_classes = log_probs.shape[-1]
    known = labels >= 0
    own = torch.nn.functional.one_hot(labels[known], num_classes).double()  # [n, V]
    given = own.T @ log_probs[known].double().exp()  # [V, V]
    mean = given / own.sum(dim=0).clamp_min(1).unsqueeze(-1)
    return ((mean + mean.T) / 2).float()


def likeness_from_head(weight: Float[Tensor, "v d"]) -> Float[Tensor, "v v"]:
    """The cosines between the classes' rows of a linear classifier, centred over the classes."""
    rows = weight.double() - weight.double().mean(dim=0)
    rows = torch.nn.functional.normalize(rows, dim=-1)
    cosines = rows @ rows.T
    return ((cosines + cosines.T) / 2).float()


def _groups(num_classes: int, merges: list[list[int]]) -> Groups:
    """The groups after some merges; the one that merge k makes has the number num_classes + k."""
    members: dict[int, tuple[int, ...]] = {index: (index,) for index in range(num_classes)}
    for number, (first, second) in enumerate(merges, start=num_classes):
        members[number] = members.pop(first) + members.pop(second)
    return tuple(sorted(tuple(sorted(group)) for group in members.values()))
