import pytest
import torch
from sklearn.cluster import AgglomerativeClustering

from preceptor.errors import RecipeError
from preceptor.ops.grouping import check_nested
from preceptor.ops.hierarchy import class_tree, likeness_from_head, likeness_from_soft_labels

GROUPS = ((0, 4, 5), (1, 3), (2,))


def _likeness(num_classes: int = 9) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    likeness = torch.rand(num_classes, num_classes, generator=draw)
    return (likeness + likeness.T) / 2


def test_the_groups_are_scikit_learns() -> None:
    likeness = _likeness()
    distance = (likeness.max() - likeness).fill_diagonal_(0.0).numpy()
    for size in (2, 4, 6):
        model = AgglomerativeClustering(size, metric="precomputed", linkage="average")
        numbers = model.fit(distance).labels_
        expected = {frozenset((numbers == g).nonzero()[0].tolist()) for g in range(size)}
        (groups,) = class_tree(likeness, [size])
        assert {frozenset(group) for group in groups} == expected


def test_the_levels_are_nested_and_have_their_sizes() -> None:
    levels = class_tree(_likeness(), [2, 4, 9])
    assert [len(level) for level in levels] == [2, 4, 9]
    check_nested(levels)


def test_a_teacher_that_confuses_classes_of_a_group_shows_the_groups() -> None:
    group_of = {member: number for number, group in enumerate(GROUPS) for member in group}
    labels = torch.arange(6).repeat(20)
    alike = torch.tensor([[float(group_of[i] == group_of[j]) for j in range(6)] for i in range(6)])
    draw = torch.Generator().manual_seed(0)
    logits = 2 * alike[labels] + 0.3 * torch.randn(120, 6, generator=draw)
    logits[torch.arange(120), labels] += 3
    likeness = likeness_from_soft_labels(torch.log_softmax(logits, -1), labels)
    assert class_tree(likeness, [3]) == (GROUPS,)


def test_a_mean_soft_label_is_what_one_computes_by_hand() -> None:
    p = torch.tensor([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
    found = likeness_from_soft_labels(p.log(), torch.tensor([0, 0, 1, -1]))
    mean = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(found, (mean + mean.T) / 2)


def test_a_classifier_with_rows_near_one_another_shows_the_groups() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(3, 8, generator=draw)
    weight = torch.empty(6, 8)
    for number, group in enumerate(GROUPS):
        for member in group:
            weight[member] = centres[number] + 0.3 * torch.randn(8, generator=draw)
    assert class_tree(likeness_from_head(weight), [3]) == (GROUPS,)


@pytest.mark.parametrize("sizes", [[4, 2], [2, 2], [0], [10]])
def test_sizes_that_make_no_tree_are_refused(sizes: list[int]) -> None:
    with pytest.raises(RecipeError, match="Give growing numbers"):
        class_tree(_likeness(), sizes)
