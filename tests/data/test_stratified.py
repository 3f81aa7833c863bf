import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor.data.stratified import few_labels, parted, stratified
from preceptor.errors import DataError


def labels_of(*counts):
    return torch.cat([torch.full((count,), index) for index, count in enumerate(counts)])


def counts(labels, chosen, classes):
    return torch.bincount(labels[chosen], minlength=classes).tolist()


def test_classes_keep_their_shares():
    labels = labels_of(100, 50, 30, 20)
    assert counts(labels, stratified(labels, 20, (0,)), 4) == [10, 5, 3, 2]


def test_shares_are_rounded_by_largest_remainder():
    # Hamilton's method by hand: 7 seats on 53, 24, 23 of 100 are 3.71, 1.68, 1.61.
    labels = labels_of(53, 24, 23)
    assert counts(labels, stratified(labels, 7, (3,)), 3) == [4, 2, 1]


def test_a_rare_class_has_one_label_at_least():
    labels = labels_of(1000, 2, 1)
    assert counts(labels, stratified(labels, 10, (0,)), 3) == [8, 1, 1]


def test_fewer_labels_than_classes_leave_out_classes_by_seed():
    labels = labels_of(*[5] * 10)
    without = {tuple(labels[few_labels(labels, 4, seed)].tolist()) for seed in range(20)}
    assert all(len(set(chosen)) == 4 for chosen in without)
    assert len(without) > 5


def test_the_choice_is_the_same_for_a_seed_and_another_for_the_next():
    labels = labels_of(50, 50)
    first = few_labels(labels, 10, seed=1)
    assert torch.equal(first, few_labels(labels, 10, seed=1))
    assert not torch.equal(first, few_labels(labels, 10, seed=2))
    assert torch.equal(first, first.sort().values)


def test_examples_without_a_label_are_never_chosen():
    labels = torch.tensor([0, -1, 1, -1, 0, 1])
    assert few_labels(labels, 4, seed=0).tolist() == [0, 2, 4, 5]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.data())
def test_a_part_held_out_and_what_stays_are_the_whole(sizes, data):
    labels = labels_of(*sizes)
    free = sum(sizes) - len(sizes)
    if not free:
        return
    count = data.draw(st.integers(1, free))
    stays, held = parted(labels, count, (5,))
    assert len(held) == count
    assert torch.cat([stays, held]).sort().values.tolist() == list(range(len(labels)))
    assert min(counts(labels, stays, len(sizes))) >= 1


@pytest.mark.parametrize("count", [0, 7])
def test_a_number_out_of_range_is_refused(count):
    with pytest.raises(DataError, match=r"1 to 6 can be chosen"):
        few_labels(labels_of(3, 3), count, seed=0)
