import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from preceptor.errors import RecipeError
from preceptor.objectives.dkd import DKD
from preceptor.objectives.grouped_kd import GroupedKD
from tests.objectives.random_logits import pair, terms_of

GROUPS = ((0, 3), (1,), (2, 4))


def test_its_two_parts_are_what_scipy_says() -> None:
    t, s = pair(4, 5)
    p, q = softmax(t.numpy() / 4, axis=-1), softmax(s.numpy() / 4, axis=-1)
    between, coupled, uncoupled = np.zeros(4), np.zeros(4), np.zeros(4)
    for members in map(list, GROUPS):
        p_g, q_g = p[:, members].sum(-1), q[:, members].sum(-1)
        inside = rel_entr(p[:, members] / p_g[:, None], q[:, members] / q_g[:, None]).sum(-1)
        between += rel_entr(p_g, q_g)
        coupled += p_g * inside
        uncoupled += inside
    found = terms_of(GroupedKD(groups=GROUPS, between=2.0, within=3.0), t, s)
    free = terms_of(GroupedKD(groups=GROUPS, coupled=False), t, s)
    values = [found["grouped_kd.between"], found["grouped_kd.within"], free["grouped_kd.within"]]
    for term, expected in zip(values, (32 * between, 48 * coupled, 16 * uncoupled), strict=True):
        torch.testing.assert_close(term.values, torch.from_numpy(expected))


def test_dkd_is_the_uncoupled_case_whose_groups_are_the_label_and_the_rest() -> None:
    t, s = pair(4, 5)
    labels = torch.full((4,), 2)
    ours = terms_of(
        GroupedKD(groups=((2,), (0, 1, 3, 4)), between=1.0, within=8.0, coupled=False), t, s
    )
    dkd = terms_of(DKD(), t, s, labels)
    torch.testing.assert_close(ours["grouped_kd.between"].values, dkd["dkd.target"].values)
    torch.testing.assert_close(ours["grouped_kd.within"].values, dkd["dkd.others"].values)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (((0, 1), (1, 2)), "class 1 stands twice"),
        (((0, 1), ()), "an empty one"),
        ((), "nothing in them"),
    ],
)
def test_groups_that_divide_nothing_are_refused(groups, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        GroupedKD(groups=groups)


@pytest.mark.parametrize(
    ("groups", "words"), [(((0, 1), (2,)), "class 3 is in none"), (((0, 9), (1,)), "class 9 is in")]
)
def test_groups_of_other_classes_than_the_models_are_refused(groups, words: str) -> None:
    t, s = pair(4, 5)
    with pytest.raises(RecipeError, match=words):
        terms_of(GroupedKD(groups=groups), t, s)


def test_its_loss_is_linear_in_the_teacher_only_where_it_is_coupled() -> None:
    assert GroupedKD(groups=GROUPS).needs().linear
    assert not GroupedKD(groups=GROUPS, coupled=False).needs().linear
