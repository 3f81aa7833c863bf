import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from preceptor.errors import RecipeError
from preceptor.objectives.grouped_kd import GroupedKD
from preceptor.objectives.hierarchy import Hierarchy, TeacherTree
from preceptor.objectives.kd import KD
from preceptor.ops.hierarchy import class_tree, likeness_from_head
from preceptor.testing import check_objective, example_world
from tests.objectives.random_logits import pair, terms_of

COARSE, FINE = ((0, 1, 3), (2, 4)), ((0, 3), (1,), (2, 4))


def _masses(x: np.ndarray, groups) -> np.ndarray:
    return np.stack([x[:, list(members)].sum(-1) for members in groups], axis=-1)


def test_each_level_adds_what_its_masses_tell_beyond_the_level_above() -> None:
    t, s = pair(4, 5)
    p, q = softmax(t.numpy() / 4, axis=-1), softmax(s.numpy() / 4, axis=-1)
    coarse = rel_entr(_masses(p, COARSE), _masses(q, COARSE)).sum(-1)
    fine = rel_entr(_masses(p, FINE), _masses(q, FINE)).sum(-1)
    whole = rel_entr(p, q).sum(-1)
    found = terms_of(Hierarchy(levels=(COARSE, FINE), weights=(3.0, 2.0, 0.5)), t, s)
    expected = {
        "hierarchy.level1": 3 * 16 * coarse,
        "hierarchy.level2": 2 * 16 * (fine - coarse),
        "hierarchy.classes": 0.5 * 16 * (whole - fine),
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name].values, torch.from_numpy(values))


def test_with_all_weights_one_it_is_kd() -> None:
    t, s = pair(4, 5)
    found = terms_of(Hierarchy(levels=(COARSE, FINE), weights=(1.0, 1.0, 1.0)), t, s)
    whole = sum(term.values for term in found.values())
    torch.testing.assert_close(whole, terms_of(KD(), t, s)["kd"].values)


def test_one_level_is_grouped_kd() -> None:
    t, s = pair(4, 5)
    found = terms_of(Hierarchy(levels=(FINE,), weights=(2.0, 3.0)), t, s)
    same = terms_of(GroupedKD(groups=FINE, between=2.0, within=3.0), t, s)
    for ours, theirs in zip(found.values(), same.values(), strict=True):
        torch.testing.assert_close(ours.values, theirs.values)


def test_weights_by_height_are_the_papers_for_a_hard_teacher() -> None:
    # Equation 5 of the paper: -sum_l exp(-a h_l) log q(C_l | C_{l+1}), leaves at height 0.
    _, s = pair(1, 5)
    t = torch.full((1, 5), -torch.inf, dtype=torch.float64)
    t[0, 3] = 0.0
    q = softmax(s.numpy(), axis=-1)[0]
    a = 0.4
    expected = -(
        np.exp(-2 * a) * np.log(q[[0, 1, 3]].sum())
        + np.exp(-a) * np.log(q[[0, 3]].sum() / q[[0, 1, 3]].sum())
        + np.log(q[3] / q[[0, 3]].sum())
    )
    weights = (float(np.exp(-2 * a)), float(np.exp(-a)), 1.0)
    ours = Hierarchy(levels=(COARSE, FINE), weights=weights, temperature=1.0)
    whole = sum(float(term.values) for term in terms_of(ours, t, s).values())
    assert whole == pytest.approx(expected)


@pytest.mark.parametrize(
    ("levels", "weights", "words"),
    [
        ((FINE, COARSE), (1.0, 1.0, 1.0), "no single group of the level above"),
        ((COARSE,), (1.0,), "Give 2 numbers"),
        ((COARSE,), (1.0, -1.0), "one weight >= 0"),
        ((), (1.0,), "at least one level"),
        ((((0, 1), (1, 2)),), (1.0, 1.0), "stands twice"),
    ],
)
def test_a_tree_that_is_none_is_refused(levels, weights, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Hierarchy(levels=levels, weights=weights)


def test_a_tree_over_other_classes_is_refused() -> None:
    t, s = pair(4, 6)
    with pytest.raises(RecipeError, match="class 5 is in none"):
        terms_of(Hierarchy(levels=(COARSE,), weights=(1.0, 1.0)), t, s)


def test_a_tree_from_the_teachers_classifier_keeps_the_contract() -> None:
    check_objective(Hierarchy(levels=TeacherTree(sizes=(2, 3)), weights=(2.0, 1.0, 0.5)))


def test_a_tree_from_the_teachers_classifier_is_what_clustering_its_rows_gives() -> None:
    weights = (2.0, 1.0, 0.5)
    world = example_world(Hierarchy(levels=TeacherTree(sizes=(2, 3)), weights=weights))
    levels = class_tree(likeness_from_head(world.teacher.head.weight), (2, 3))
    by_hand = terms_of(
        Hierarchy(levels=levels, weights=weights), world.teacher.logits, world.student.logits
    )
    for name, term in world.terms().items():
        torch.testing.assert_close(term.values, by_hand[name].values)


def test_a_tree_from_the_teacher_reads_its_classifier_and_a_given_one_does_not() -> None:
    assert Hierarchy(levels=TeacherTree(sizes=(2,)), weights=(1.0, 1.0)).needs().teacher_head
    assert not Hierarchy(levels=(COARSE,), weights=(1.0, 1.0)).needs().teacher_head
